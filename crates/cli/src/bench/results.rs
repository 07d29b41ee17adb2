//! All that was measured, and its form for programs.

use std::collections::BTreeMap;

use corewal::io::{FileStorage, WritePath};
use serde_json::{Value, json};

use super::cell::Cell;
use super::cells::Outcome;
use super::figures::{Latencies, Spread};
use super::limits::{Limit, LimitRow};
use super::machine::Machine;
use super::work::{KEY_LEN, VALUE_LEN};
use crate::medium::Io;

/// A way of writing, or why there is none.
pub(super) struct Backend {
    pub(super) io: Io,
    pub(super) storage: Result<(FileStorage, WritePath), String>,
}

/// One cell on one backend, over all runs.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) cell: Cell,
    pub(super) io: Io,
    pub(super) figure: Spread,
    pub(super) limit: Spread,
    /// Of each run's figure to the same run's limit.
    pub(super) ratio: Spread,
    pub(super) against: String,
    pub(super) latencies: Option<Latencies>,
}

impl Row {
    /// Whether one of the cell's targets is met; `None` if it has none.
    pub(super) fn is_met(&self) -> Option<bool> {
        let targets = self.cell.targets();
        let ratio = (!self.ratio.is_empty()).then(|| self.ratio.median());
        (!targets.is_empty()).then(|| targets.iter().any(|target| target.is_met(self.figure.median(), ratio)))
    }

    /// Its targets, for people.
    pub(super) fn target(&self) -> String {
        let targets = self.cell.targets().iter().map(|target| target.print(self.cell.unit()));
        targets.collect::<Vec<_>>().join(" or ")
    }

    fn json(&self) -> Value {
        json!({
            "cell": self.cell.to_string(),
            "title": self.cell.title(),
            "backend": self.io.to_string(),
            "unit": self.cell.unit().name(),
            "figure": self.figure.json(),
            "against": self.against,
            "limit": self.limit.json(),
            "ratio": self.ratio.json(),
            "target": self.target(),
            "met": self.is_met(),
            "latency_ns": self.latencies.as_ref().map(Latencies::json),
        })
    }
}

/// All of it.
pub(super) struct Results {
    pub(super) machine: Machine,
    pub(super) quick: bool,
    /// Asked for; an interrupted bench has fewer.
    pub(super) runs: u32,
    pub(super) interrupted: bool,
    pub(super) seconds: f64,
    pub(super) backends: Vec<Backend>,
    /// How the limits of the disk were measured.
    pub(super) way: &'static str,
    pub(super) limits: BTreeMap<Limit, LimitRow>,
    /// In the order of measurement.
    pub(super) rows: Vec<Row>,
}

impl Results {
    pub(super) fn new(machine: Machine, quick: bool, runs: u32, backends: Vec<Backend>) -> Self {
        let (limits, rows) = (BTreeMap::new(), Vec::new());
        Self { machine, quick, runs, interrupted: false, seconds: 0.0, backends, way: "", limits, rows }
    }

    /// The backends that are to be had.
    pub(super) fn usable(&self) -> Vec<(Io, FileStorage)> {
        let usable = self.backends.iter().filter_map(|backend| {
            let (storage, _) = backend.storage.as_ref().ok()?;
            Some((backend.io, storage.clone()))
        });
        usable.collect()
    }

    /// Takes in one more run of a cell.
    pub(super) fn push(&mut self, cell: Cell, io: Io, outcome: Outcome) {
        let Outcome { figure, limit, against, latencies } = outcome;
        let at = self.rows.iter().position(|row| row.cell == cell && row.io == io).unwrap_or_else(|| {
            let (figure, limit, ratio) = Default::default();
            self.rows.push(Row { cell, io, figure, limit, ratio, against: String::new(), latencies: None });
            self.rows.len() - 1
        });
        let row = &mut self.rows[at];
        row.figure.push(figure);
        row.against = against;
        if let Some(limit) = limit {
            row.limit.push(limit);
            row.ratio.push(figure / limit);
        }
        if let Some(latencies) = latencies {
            row.latencies.get_or_insert_with(Latencies::new).add(&latencies);
        }
    }

    /// The rows of a cell, by backend.
    pub(super) fn of(&self, cell: Cell) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.cell == cell)
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let backend = |backend: &Backend| {
            let (path, refused) = match &backend.storage {
                Ok((_, path)) => (Some(crate::medium::json(path)), None),
                Err(reason) => (None, Some(reason)),
            };
            json!({ "backend": backend.io.to_string(), "write_path": path, "refused": refused })
        };
        let limit = |(limit, row): (&Limit, &LimitRow)| {
            json!({
                "limit": limit.to_string(),
                "unit": limit.unit().name(),
                "figure": row.figure.json(),
                "bytes_per_second": limit.bandwidth(row.figure.median()),
                "latency_ns": row.latencies.quantile(0.5).map(|_| row.latencies.json()),
            })
        };
        json!({
            "machine": self.machine,
            "quick": self.quick,
            "runs": self.runs,
            "interrupted": self.interrupted,
            "seconds": self.seconds,
            "key_bytes": KEY_LEN,
            "value_bytes": VALUE_LEN,
            "backends": self.backends.iter().map(backend).collect::<Vec<_>>(),
            "limits_by": self.way,
            "limits": self.limits.iter().map(limit).collect::<Vec<_>>(),
            "cells": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
        })
    }
}
