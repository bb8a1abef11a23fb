//! The pages as whoever asks for them meets them: a real server on a real port, and clients that mean well or don't.

mod flood;
mod handed;
mod hostile;
mod pages;
mod reload;
mod rig;
mod secured;
mod users;
