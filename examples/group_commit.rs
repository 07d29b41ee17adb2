//! Takes orders on one thread and accepts each on another, once it cannot be
//! lost any more; many orders share one sync.
//!
//! The owner of the log commits, polls, and sleeps until it has something to
//! do. Each commit's ticket goes to the thread that answers the customers, and
//! blocks there.
//!
//! `cargo run -p corewal --example group_commit`

#![allow(clippy::disallowed_methods, reason = "a program outside the engine: it starts a thread")]

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use corewal::{Commit, GroupCommit, Options, Ticket};

const ORDERS: u64 = 1000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    // Whichever comes first: 100 orders, or one that has waited for 2 ms.
    let policy = GroupCommit::manual().commits(100).delay(Duration::from_millis(2));
    let mut opened = Options::new().cores(1).group_commit(policy).open(dir.path())?;
    let mut shard = opened.shards.remove(0);

    let (orders, incoming) = channel();
    let (tickets, outgoing) = channel::<(u64, Ticket)>();
    let customers = thread::spawn(move || -> corewal::Result<u64> {
        (1..=ORDERS).for_each(|order| orders.send(order).expect("the shop is open"));
        drop(orders);
        let mut accepted = 0;
        for (order, ticket) in outgoing {
            ticket.wait()?; // from here on the order survives a power loss
            accepted = order;
        }
        Ok(accepted)
    });

    loop {
        // A channel does not wake for the disk, so while a sync is under way
        // this looks after it now and then. A reactor sleeps on
        // `Shard::event_fd` instead.
        let idle = if shard.log().sync_in_flight() { 100 } else { 1_000_000 };
        let nap = shard.next_deadline().unwrap_or(Duration::MAX).min(Duration::from_micros(idle));
        let order = match incoming.recv_timeout(nap) {
            Ok(order) => order,
            Err(RecvTimeoutError::Timeout) => {
                shard.poll()?; // starts the sync that is due, takes in what has arrived
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        shard.put(&order.to_le_bytes(), b"two of the green ones")?;
        let end = shard.commit(&Commit::new().offset_u64("orders", order))?;
        tickets.send((order, shard.ticket(end)))?;
        shard.poll()?;
    }
    drop(tickets);
    shard.sync()?; // the last ones need not wait for their time
    let accepted = customers.join().expect("it does not panic")?;
    println!("{accepted} orders accepted, the log is {} bytes long", shard.log().appended_lsn());
    assert_eq!((accepted, shard.offset_u64("orders")), (ORDERS, Some(ORDERS)));
    Ok(())
}
