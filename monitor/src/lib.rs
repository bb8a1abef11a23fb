//! iommu-watch: runtime invariant monitor for the Linux IOMMU.
//!
//! The way of the data: [`kernel`] (probes, ring) → [`event`] → [`model`] → [`check`] → `report`, driven
//! by [`watcher`]; the commands are different ends of this one pipe. ARCHITECTURE.md maps it.

pub mod advisory;
pub mod aside;
pub mod check;
pub mod command;
pub mod config;
pub mod conformance;
pub mod coverage;
pub mod errno;
pub mod event;
pub mod input;
pub mod invalidations;
pub mod inventory;
pub mod kernel;
pub mod live;
mod lock;
pub mod model;
pub mod outlet;
pub mod replay;
pub mod report;
pub mod trace;
pub mod watcher;
pub mod web;
