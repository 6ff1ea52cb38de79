//! Names of records that belong to no tenant.

/// Tenant part of the key of a record that belongs to the platform itself.
pub const PLATFORM: &str = "";
