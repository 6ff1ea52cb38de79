//! How an agent gets out of its site: directly or through the customer's web proxy.
