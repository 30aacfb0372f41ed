//! Coordinators on a core, with a disk in memory.
