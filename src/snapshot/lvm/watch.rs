//! tmp
pub struct Watch;
pub struct FillRecord;
