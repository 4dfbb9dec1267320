//! I25: whatever is done to the chains is found.

use jiff::Timestamp;

use super::*;

/// Chains of these lengths, as `append` writes them.
fn chains(lengths: &[i64]) -> Vec<EntryRow> {
    let mut rows = Vec::new();
    for (tenant, length) in (1..).zip(lengths) {
        let mut previous = vec![0; 32];
        for seq in 1..=*length {
            let at = Timestamp::from_microsecond(1_700_000_000_000_000 + seq).unwrap();
            let mut entry = EntryRow {
                tenant: Uuid::from_u128(tenant),
                seq,
                at: Some(at),
                actor: "cli root@host".to_owned(),
                action: "tenant.pause".to_owned(),
                details: format!("{{\"n\":{seq}}}"),
                previous,
                hash: Vec::new(),
            };
            entry.hash = hash(&entry, at).to_vec();
            previous = entry.hash.clone();
            rows.push(entry);
        }
    }
    rows
}

fn heads(rows: &[EntryRow]) -> Vec<AuditHead> {
    let last: BTreeMap<Uuid, (i64, Vec<u8>)> = rows.iter().map(|row| (row.tenant, (row.seq, row.hash.clone()))).collect();
    last.into_iter().map(|(tenant, (seq, hash))| AuditHead { tenant: TenantId(tenant), seq, hash }).collect()
}

fn walk(mut rows: Vec<EntryRow>, heads: &[AuditHead], kept: &[AuditHead]) -> Verified {
    // As the database gives them out.
    rows.sort_by_key(|row| (row.tenant, row.seq));
    let mut walk = Walk::new(heads.iter().map(|head| (head.tenant.0, head.seq, head.hash.clone())), kept);
    rows.into_iter().for_each(|row| walk.take(row));
    walk.end()
}

#[test]
fn untouched_chains_are_in_order() {
    let rows = chains(&[4, 1, 7]);
    let heads = heads(&rows);
    let verified = walk(rows, &heads, &heads);
    assert_eq!((verified.entries, verified.chains, verified.problems), (12, 3, 0), "{:?}", verified.findings);
    assert_eq!(walk(Vec::new(), &[], &[]), Verified::default());
}

/// What is altered, in words, and how.
type Alteration = (&'static str, fn(&mut EntryRow));

#[test]
fn i25_every_change_of_every_field_of_every_entry_is_found() {
    let alterations: [Alteration; 12] = [
        ("tenant", |row| row.tenant = Uuid::from_u128(99)),
        ("seq", |row| row.seq += 100),
        ("at", |row| row.at = row.at.map(|at| at + jiff::SignedDuration::from_micros(1))),
        ("no time", |row| row.at = None),
        ("actor", |row| row.actor.push('x')),
        ("action", |row| row.action = "tenant.resume".to_owned()),
        ("details", |row| row.details = "{}".to_owned()),
        ("letters over a border", |row| {
            row.actor.push('t');
            row.action.remove(0);
        }),
        ("previous", |row| row.previous[0] ^= 1),
        ("hash", |row| row.hash[31] ^= 1),
        ("short hash", |row| row.hash.truncate(31)),
        ("hashed anew", |row| {
            row.details = "{}".to_owned();
            row.hash = hash(row, row.at.unwrap()).to_vec();
        }),
    ];
    let heads = heads(&chains(&[5, 3]));
    for at in 0..8 {
        for (what, alter) in alterations {
            let mut rows = chains(&[5, 3]);
            alter(&mut rows[at]);
            assert!(walk(rows, &heads, &[]).problems > 0, "{what} of entry {at}");
        }
    }
}

#[test]
fn i25_every_entry_that_is_taken_out_and_every_swap_of_neighbours_is_found() {
    let heads = heads(&chains(&[5, 3]));
    for at in 0..8 {
        let mut rows = chains(&[5, 3]);
        rows.remove(at);
        assert!(walk(rows, &heads, &[]).problems > 0, "entry {at} is gone");
    }
    for at in 0..7 {
        let mut rows = chains(&[5, 3]);
        // What stands in one row now stands in the other, the places stay.
        let (one, other) = (rows[at].seq, rows[at + 1].seq);
        let (mine, theirs) = (rows[at].tenant, rows[at + 1].tenant);
        (rows[at].seq, rows[at + 1].seq) = (other, one);
        (rows[at].tenant, rows[at + 1].tenant) = (theirs, mine);
        assert!(walk(rows, &heads, &[]).problems > 0, "{at} and its neighbour");
    }
}

#[test]
fn i25_a_tail_that_was_cut_is_found_and_with_its_head_by_a_head_that_was_kept() {
    let kept = heads(&chains(&[5, 3]));
    for left in [0, 1, 4] {
        let cut = || chains(&[left, 3]);
        assert!(walk(cut(), &kept, &[]).problems > 0, "{left} of 5 left, the head as it was");
        let moved = heads(&cut());
        assert_eq!(walk(cut(), &moved, &[]).problems, 0, "who moves the head too is not seen from within");
        assert!(walk(cut(), &moved, &kept).problems > 0, "but from without");
    }
    // Cut, and grown again to the same length.
    let mut rows = chains(&[5, 3]);
    rows[4].action = "tenant.resume".to_owned();
    rows[4].hash = hash(&rows[4], rows[4].at.unwrap()).to_vec();
    let moved = heads(&rows);
    let verified = walk(rows, &moved, &kept);
    assert!(verified.findings[0].problem.contains("written anew"), "{:?}", verified.findings);
}

#[test]
fn a_head_that_is_missing_or_goes_nowhere_is_found() {
    let mut known = heads(&chains(&[2, 2]));
    let lost = known.remove(0);
    assert!(walk(chains(&[2, 2]), &known, &[]).findings[0].problem.contains("head of this chain is missing"));
    known.push(AuditHead { tenant: TenantId(Uuid::from_u128(50)), ..lost });
    assert!(walk(chains(&[0, 2]), &known, &[]).findings[0].problem.contains("all before it are missing"));
}

#[test]
fn a_thousand_problems_are_counted_and_a_hundred_told() {
    let mut rows = chains(&[1000]);
    let heads = heads(&rows);
    rows.iter_mut().for_each(|row| row.actor.push('x'));
    let verified = walk(rows, &heads, &[]);
    assert_eq!((verified.problems, verified.findings.len()), (1000, TOLD));
}
