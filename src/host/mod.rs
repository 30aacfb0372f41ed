//! One core on one CPU: feeds its [`Core`] what happens, carries out what follows from it.
//!
//! Knows no frame and no socket. The core is borrowed only between two lines of this room, never
//! across an await. Invariant: everything a core sends to another arrives there in the order in
//! which it was sent.

mod call;
mod driver;
mod faces;

pub use call::{Answer, Call, Stopping};
pub use driver::{Handover, Host, Mail, Node, Start, Status};
pub use faces::{CORE_ID_STRIDE, CoreDoor};
