//! What a session may do with an instance that several principals use.
//!
//! Owns what is nobody's there: tasks, and one log level for all. Invariant: what one session asks of
//! its child changes nothing that another one sees, and what isn't a session's own doesn't reach
//! the child.

use bytes::Bytes;

use crate::{
    audit::Status,
    backend::{Failure, ask::Unanswered, levels::LEVELS},
    bridge::object,
    frame::{self, Frame, Member},
    session::{
        Session, empty_result,
        peer::{failure_error, failure_status},
    },
};

impl Session {
    /// True when other principals use its instance.
    pub(super) fn is_among_others(&self) -> bool {
        self.upstream.instance().is_mixed()
    }

    /// True for a request about tasks where there are none, because they would be everybody's.
    pub(crate) fn has_no(&self, frame: &Frame) -> bool {
        frame.method().starts_with("tasks/") && self.is_among_others()
    }

    /// A call as it is where there are no tasks: who has none ignores that one is asked for
    /// (2025-11-25, basic/utilities/tasks).
    pub(crate) fn without_task(&self, frame: Frame) -> Frame {
        match frame.method() {
            "tools/call" if self.is_among_others() => frame.without(&[Member::Task]),
            _ => frame,
        }
    }

    /// True for a notification that can't be this session's to send: its child asks nobody for
    /// anything, so it waits for no word of roots, progress, questions or tasks.
    pub(super) fn is_none_of_its(&self, frame: &Frame) -> bool {
        let method = frame.method();
        let answers = [
            "notifications/roots/list_changed",
            "notifications/progress",
            "notifications/elicitation/complete",
        ];
        (answers.contains(&method) || method.starts_with("notifications/tasks"))
            && self.is_among_others()
    }

    /// True for a request for log lines that the gateway answers, since its child has one level for
    /// all.
    pub(crate) fn keeps_level(&self, frame: &Frame) -> bool {
        frame.method() == "logging/setLevel" && !self.has_own_instance() && self.is_among_others()
    }

    /// Takes such a request; its answer, and how it is recorded.
    pub(crate) async fn set_level(&self, frame: &Frame, id: &[u8]) -> (Bytes, Status<'static>) {
        let level = object::get_text(frame.params().unwrap_or(b"{}"), "level");
        let level = LEVELS
            .iter()
            .position(|known| level.as_deref() == Some(*known));
        let Some(level) = level.and_then(|level| u8::try_from(level).ok()) else {
            let message = "Invalid params: no such level";
            let error = frame::error_response(Some(id), -32602, message, None);
            return (error, Status::Error(-32602));
        };
        let told = self.upstream.instance().set_level(self.number, level).await;
        let failure = match told {
            Ok(None) => return (empty_result(id), Status::Ok),
            Ok(Some(refused)) => match self.access().redact(refused.with_id(id)) {
                Ok(refused) => {
                    let code = refused.error_code().unwrap_or_default();
                    return (refused.into_bytes(), Status::Error(code));
                }
                Err(_) => Failure::Unreadable,
            },
            Err(Unanswered::Silent) => Failure::TimedOut,
            Err(Unanswered::Gone) => Failure::Crashed,
            Err(Unanswered::Unreadable) => Failure::Unreadable,
        };
        (failure_error(id, failure), failure_status(failure))
    }

    /// True when a line of its child is one that this session asked for.
    pub(super) fn wants_line(&self, frame: &Frame) -> bool {
        if frame.method() != "notifications/message" || !self.is_among_others() {
            return true;
        }
        let level = object::get_text(frame.params().unwrap_or(b"{}"), "level");
        let instance = self.upstream.instance();
        self.is_bridged() || instance.hears(self.number, level.as_deref().unwrap_or_default())
    }
}
