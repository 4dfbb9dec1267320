//! Fault 56 around the rotation of refresh tokens: fifty kills at every named step of a redemption and at other moments. I30.
//! `./dev soak` makes ten times as many.

use e2e::measure::rotation::{Kills, TOLD_WITHIN, kills};
use simulator::Rotation;

fn show(mode: &str, seen: &Kills) {
    let Kills { kills, in_the_gap, lost, told } = seen;
    println!("{mode}: {kills} kills, {in_the_gap} between an answer and its commit, {lost} sign-ins lost, told: {told}");
}

#[tokio::test]
async fn fault_56_fifty_kills_around_a_rotation_lose_only_what_no_client_could_keep_i30() -> anyhow::Result<()> {
    let at_entra = kills(Rotation::Entra, 2, 13, 2, None);
    let where_strict = kills(Rotation::Strict, 4, 6, 4, None);
    let (at_entra, where_strict) = tokio::try_join!(at_entra, where_strict)?;
    show("an old token stays good", &at_entra);
    show("an old token is taken for theft", &where_strict);
    assert_eq!(at_entra.kills + where_strict.kills, 50);
    assert!(at_entra.in_the_gap >= 6, "{at_entra:?}");
    assert_eq!(at_entra.lost, 0);
    // Two of every twelve deaths are aimed at the gap.
    assert!(where_strict.lost >= 4, "{where_strict:?}");
    assert_eq!(where_strict.lost, where_strict.in_the_gap, "nothing is lost that was stored");
    assert!(where_strict.told.max() <= TOLD_WITHIN, "{where_strict:?}");
    Ok(())
}
