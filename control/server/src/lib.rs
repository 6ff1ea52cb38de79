//! Control's wire side: TLS listener, node API, EST, admin API, console.

pub mod admin_api;
pub mod console;
pub mod pages;
mod services;

pub use services::{CardView, FeedService, IntegrationService, ServiceError};
