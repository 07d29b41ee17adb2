//! A state of one's own: accounts, moved by payload records that only this
//! program understands. Opening rebuilds them by the same `apply` that runs
//! live, and takes a transfer whole or not at all.
//!
//! `cargo run -p corewal --example own_state`

use std::collections::BTreeMap;
use std::path::Path;

use corewal::{Change, Commit, Opened, Options, Recover, Result, State};

/// The balance of each account.
#[derive(Debug, Default)]
struct Accounts(BTreeMap<u32, i64>);

/// One side of a transfer, as it is logged.
#[derive(Clone, Copy)]
struct Entry {
    account: u32,
    amount: i64,
}

impl Entry {
    fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.account.to_le_bytes());
        bytes[4..].copy_from_slice(&self.amount.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (account, amount) = bytes.split_first_chunk()?;
        Some(Self { account: u32::from_le_bytes(*account), amount: i64::from_le_bytes(amount.try_into().ok()?) })
    }
}

impl State for Accounts {
    fn apply(&mut self, change: Change<'_>) {
        // A function of the state and the change alone: no clock, no random
        // number, nothing that could be different in recovery.
        let Change::Payload(bytes) = change else { return };
        let entry = Entry::parse(bytes).expect("only this program writes this log");
        *self.0.entry(entry.account).or_default() += entry.amount;
    }
}

/// The cores of this store are independent, so it takes all that each of them
/// has committed and needs no epochs.
fn open(dir: &Path) -> Result<Opened<Accounts>> {
    Options::new().cores(1).recover(Recover::Latest).open_with(dir, |_core| Accounts::default())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;

    let mut opened = open(dir.path())?;
    let shard = &mut opened.shards[0];
    for (from, to, amount) in [(0, 1, 100), (0, 2, 50), (1, 2, 30)] {
        shard.payload(&Entry { account: from, amount: -amount }.to_bytes())?;
        shard.payload(&Entry { account: to, amount }.to_bytes())?;
        shard.commit(&Commit::new())?;
    }
    // Half a transfer: on the disk, but not committed when the program ends.
    shard.payload(&Entry { account: 2, amount: -80 }.to_bytes())?;
    shard.sync()?;
    println!("live:      {:?}", shard.state());
    drop(opened);

    let opened = open(dir.path())?;
    println!("{}", opened.report);
    let accounts = opened.shards[0].state();
    println!("recovered: {accounts:?}");
    assert_eq!(accounts.0, BTreeMap::from([(0, -150), (1, 70), (2, 80)]));
    assert_eq!(accounts.0.values().sum::<i64>(), 0, "a transfer neither makes nor loses money");
    Ok(())
}
