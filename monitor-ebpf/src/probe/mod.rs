//! The programs by family, and what they share.

mod array;
mod call;
mod emit;
mod fault;
mod loss;
mod owed;
mod read;
mod turn;
mod window;

mod amd;
mod attach;
mod capability;
mod clock;
mod invalidation;
mod left;
mod lifetime;
mod membership;
mod ownership;
mod pasid;
mod range;
mod request;
mod reset;
mod smmu;
mod snapshot;
mod tables;
mod tags;
mod teardown;
mod unanswered;
mod vtd;
