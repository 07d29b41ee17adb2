//! `corewal repair`

use std::io::Write as _;

use serde_json::json;

use crate::args::{Common, Repair};
use crate::exit::{Exit, Failure};

pub(super) fn run(common: &Common, args: &Repair) -> Result<Exit, Failure> {
    let repair = corewal::repair(&common.dir, args.apply)?;
    let output = if common.json { format!("{}\n", as_json(&repair)) } else { as_text(&repair) };
    std::io::stdout().lock().write_all(output.as_bytes())?;
    // A plan with something in it is a finding; a repair that was made is done.
    Ok(if repair.steps.is_empty() || repair.applied { Exit::Done } else { Exit::Findings })
}

fn as_json(repair: &corewal::Repair) -> serde_json::Value {
    let step = |step: &corewal::RepairStep| {
        json!({
            "core": step.core.map(corewal::CoreId::get),
            "damage": step.damage,
            "action": step.action,
            "loss": step.loss,
        })
    };
    json!({
        "applied": repair.applied,
        "steps": repair.steps.iter().map(step).collect::<Vec<_>>(),
        "kept": repair.kept.as_ref().map(|dir| dir.display().to_string()),
        "complete_epoch": repair.complete_epoch.get(),
    })
}

fn as_text(repair: &corewal::Repair) -> String {
    if repair.steps.is_empty() {
        return "nothing to repair\n".to_owned();
    }
    let mut text = String::new();
    for step in &repair.steps {
        text += &format!("damage  {}\naction  {}\nloses   {}\n\n", step.damage, step.action, step.loss);
    }
    let epoch = repair.complete_epoch;
    if repair.applied {
        text += &format!("repaired; the store opens at epoch {epoch}\n");
        if let Some(kept) = &repair.kept {
            text += &format!("the damaged files are kept in {}\n", kept.display());
        }
    } else {
        text += &format!("nothing was changed; with --apply this is done, and the store opens at epoch {epoch}\n");
    }
    text
}
