//! The names that 2026-07-28 reserves in `_meta`, and beside it.

/// In a request: the revision that it is of.
pub(crate) const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// In a request: who its client is.
pub(crate) const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// In a request: what its client can be asked.
pub(crate) const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// In a request: how much it wants to hear.
pub(crate) const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// In a result: who the server is.
pub(crate) const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
/// In a notification: the `subscriptions/listen` that it belongs to.
pub(crate) const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
/// The extension for tasks, which does not cross.
pub(crate) const TASKS: &str = "io.modelcontextprotocol/tasks";
