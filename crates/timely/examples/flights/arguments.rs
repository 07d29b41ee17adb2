//! The command line.

use clap::Parser;

/// Counts flights by destination and day, and goes on where it was killed.
#[derive(Parser)]
#[command(name = "flights")]
pub(crate) struct Arguments {
    /// Where the job's state is
    #[arg(long, default_value = "flights-data")]
    pub(crate) dir: String,
    /// Where the output goes
    #[arg(long, default_value = "flights-out")]
    pub(crate) out: String,
    /// Go on though an earlier start hangs and has its stores open
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Read the flights from a broker, a subject for each file
    #[arg(long, value_name = "URL")]
    pub(crate) nats: Option<String>,
    /// Publish the files' flights to a broker, and nothing else
    #[arg(long, value_name = "URL", conflicts_with = "nats")]
    pub(crate) load: Option<String>,
    /// Tables of flights, a partition each
    #[arg(value_name = "FILE", default_value = "examples/data/flights.csv")]
    pub(crate) files: Vec<String>,
    /// Timely's own: -w WORKERS, -n PROCESSES, -p PROCESS, -h HOSTFILE
    #[arg(last = true, value_name = "TIMELY OPTIONS")]
    pub(crate) timely: Vec<String>,
}
