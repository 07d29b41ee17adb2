//! The command line.

/// What is to be done.
pub(crate) struct Arguments {
    pub(crate) dir: String,
    pub(crate) out: String,
    pub(crate) take_over: bool,
    /// A broker from which flights are read.
    pub(crate) nats: Option<String>,
    /// A broker to which the files' flights are published, and nothing else.
    pub(crate) load: Option<String>,
    pub(crate) files: Vec<String>,
    /// Timely's own options.
    pub(crate) timely: Vec<String>,
}

pub(crate) fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments {
        dir: "flights-data".into(),
        out: "flights-out".into(),
        take_over: false,
        nats: None,
        load: None,
        files: Vec::new(),
        timely: Vec::new(),
    };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut value = |what: &str| given.next().ok_or(format!("{argument} takes {what}"));
        match argument.as_str() {
            "--dir" => found.dir = value("a directory")?,
            "--out" => found.out = value("a directory")?,
            "--take-over" => found.take_over = true,
            "--nats" => found.nats = Some(value("the URL of a broker")?),
            "--load" => found.load = Some(value("the URL of a broker")?),
            "--" => found.timely = given.by_ref().collect(),
            option if option.starts_with('-') => return Err(format!("there is no option {option}")),
            file => found.files.push(file.to_owned()),
        }
    }
    if found.files.is_empty() {
        found.files.push("examples/data/flights.csv".into());
    }
    Ok(found)
}
