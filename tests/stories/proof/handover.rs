//! Faults 56 and 57 between replicas: who goes is followed at once if it says so or can be seen to be gone, and otherwise
//! when its leases end. I11, I32. The figures are loose here; `./dev bench` prints them.

use std::time::Duration;

use e2e::measure::handover::{Ending, takeovers};

#[tokio::test]
async fn fault_57_a_planned_stop_hands_over_at_once_and_ends_in_time() -> anyhow::Result<()> {
    let seen = takeovers(Ending::Asked, 3, 6, 3, None).await?;
    println!("planned handover: {}; exit: {}", seen.waits, seen.exits);
    assert_eq!((seen.waits.count(), seen.exits.count()), (9, 3));
    assert!(seen.waits.max() < Duration::from_secs(5), "goal 2 s: {}", seen.waits);
    assert!(seen.exits.max() <= Duration::from_secs(10), "{}", seen.exits);
    Ok(())
}

#[tokio::test]
async fn fault_56_a_killed_replica_is_followed_when_its_leases_end_and_on_one_machine_at_once() -> anyhow::Result<()> {
    let seen = takeovers(Ending::KilledElsewhere, 5, 6, 5, None).await?;
    println!("failover: {} ({})", seen.waits, seen.how);
    assert_eq!(seen.waits.count(), 15);
    assert!(seen.waits.max() < Duration::from_secs(60), "goal p99 45 s: {}", seen.waits);
    // Whoever might only be slow is not taken over from before its lease ends.
    assert!(seen.waits.quantile(0.0) > Duration::from_secs(15), "{}", seen.waits);

    let seen = takeovers(Ending::Killed, 2, 6, 2, None).await?;
    println!("failover on one machine: {}", seen.waits);
    assert!(seen.waits.max() < Duration::from_secs(10), "{}", seen.waits);
    Ok(())
}
