//! Control's wire side: TLS listener, node API, EST, admin API, console.

mod services;

pub use services::{CardView, FeedService, IntegrationService, ServiceError};
