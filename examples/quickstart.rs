//! Put, commit, make it durable, open again, read it back.
//!
//! `cargo run -p corewal --example quickstart`

use corewal::{Commit, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;

    let mut opened = Options::new().cores(1).open(dir.path())?;
    println!("{}", opened.report);
    let shard = &mut opened.shards[0];
    shard.put(b"user:1", b"ada")?;
    shard.commit(&Commit::new().offset_u64("signups", 1))?;
    shard.end_epoch(opened.store.next_epoch())?;
    let durable = shard.sync()?; // from here on it survives a power loss
    println!("durable up to LSN {durable}, epoch {} is complete", opened.store.complete_epoch());
    drop(opened); // nothing is closed: a crash would leave the same

    let opened = Options::new().open(dir.path())?;
    println!("{}", opened.report);
    let shard = &opened.shards[0];
    let user = shard.get(b"user:1").expect("it was made durable");
    println!("user:1 = {}", String::from_utf8_lossy(user));
    println!("signups read: {:?}", shard.offset_u64("signups"));
    assert_eq!((user, shard.offset_u64("signups")), (&b"ada"[..], Some(1)));
    Ok(())
}
