//! What the HTTP door asks the cores about groups.

use crate::admin::{self, Answer};
use crate::base::CoreId;
use crate::host::{Host, Mail};
use crate::rt;

/// The questions, carried to the cores by message.
pub(super) fn groups(outside: &rt::Outside<Mail>) -> admin::Groups {
    let (page, detail) = (outside.clone(), outside.clone());
    let (committed, log_ends) = (outside.clone(), outside.clone());
    admin::Groups {
        page: Box::new(move |core, listing, answer| {
            ask(&page, core, answer, move |host| {
                host.look(|core| core.group_page(&listing))
            });
        }),
        detail: Box::new(move |core, group, part, answer| {
            ask(&detail, core, answer, move |host| {
                host.look(|core| core.group_detail(&group, &part))
            });
        }),
        committed: Box::new(move |core, answer| {
            ask(&committed, core, answer, |host| {
                host.look(crate::shard::Core::committed)
            });
        }),
        log_ends: Box::new(move |core, partitions, answer| {
            ask(&log_ends, core, answer, move |host| {
                host.look(|core| core.log_ends(&partitions))
            });
        }),
    }
}

/// Has `look` done on a core. Not sent: the answer is dropped, which says that there will be none.
fn ask<A: Send + 'static>(
    outside: &rt::Outside<Mail>,
    core: CoreId,
    answer: Answer<A>,
    look: impl FnOnce(&Host) -> A + Send + 'static,
) {
    let run = Box::new(move |host: &Host| answer.give(look(host)));
    let _ = outside.send(usize::from(core.0), Mail::Run(run));
}
