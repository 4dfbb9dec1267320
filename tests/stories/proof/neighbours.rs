//! I10: a tenth of the customers hangs, a tenth is throttled, one has very many alerts; the others do not notice, and all of the
//! very many are stored.

use std::time::Duration;

use e2e::measure::neighbours::{Neighbourhood, measure_neighbours};

#[tokio::test]
async fn sick_neighbours_do_not_make_the_healthy_ones_late() -> anyhow::Result<()> {
    let place = Neighbourhood { polls: 10, ..Neighbourhood::default() };
    let lateness = measure_neighbours(place, None).await?;
    println!("lateness of polls {lateness}");
    assert!(lateness.alone.count() >= 31 * 10 && lateness.beside.count() >= 31 * 10);
    assert!(lateness.rise() < Duration::from_secs(4), "goal 2 s: {lateness}");
    assert_eq!(lateness.stored, place.flood);
    Ok(())
}
