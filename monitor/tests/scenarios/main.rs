//! Scenarios: what a kernel does, and exactly what must be raised. Each test is named after what must hold.

mod armed;
mod bonds;
mod bounds;
mod certain;
mod conflict;
mod flush;
mod golden;
mod imbalance;
mod kernel;
mod late;
mod lifetime;
mod looks;
mod order;
mod ownership;
mod property;
mod random;
mod readings;
mod reference;
mod release;
mod released;
mod residue;
mod rid;
mod rig;
mod strayed;
mod tables;
mod unknown;
