//! How each fault of the catalogue is brought about in a soak.

pub mod cloud;
pub mod database;
pub mod host;
pub mod network;
pub mod records;
pub mod rehearsed;
pub mod sequences;

use host::Act;

/// What brings about a fault.
#[derive(Clone, Copy)]
pub enum Injector {
    /// Rules for the pretend Microsoft, aimed at one customer.
    Cloud(&'static cloud::Recipe),
    /// Records that are published.
    Records(&'static records::Batch),
    /// Something done to processes, database or network, one after the other.
    Host(&'static Act),
}

/// Everything that brings about this fault.
pub fn injectors(fault: u8) -> Vec<Injector> {
    let cloud = cloud::RECIPES.iter().filter(|recipe| recipe.fault == fault).map(Injector::Cloud);
    let records = records::BATCHES.iter().filter(|batch| batch.fault == fault).map(Injector::Records);
    let host = host::ACTS.iter().filter(|act| act.faults.contains(&fault)).map(Injector::Host);
    cloud.chain(records).chain(host).collect()
}
