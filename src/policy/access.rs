//! What one principal may do on one backend.
//!
//! Owns the order of a decision: method, then what the message is about, then the rules. Invariant:
//! what was looked at is what is sent, because a permit holds the very frame that was checked.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::Arc};

use crate::{
    frame::{Frame, Kind, Reference},
    glob::Globs,
    policy::{
        Circumstances, Denied, Grant, List, Listed, Permit, Prune, Unreadable, cel::Facts, filter,
        rules::Passed,
    },
    principal::Principal,
};

/// What one principal may do on one backend. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Access {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    principal: Principal,
    backend: String,
    grants: Vec<Grant>,
    filter: filter::Config,
    /// The filter or the roles leave something out.
    restricted: bool,
    hides: Hides,
}

/// The kinds of which something is hidden.
#[derive(Debug, Clone, Copy)]
struct Hides {
    tools: bool,
    prompts: bool,
    resources: bool,
}

/// What a message is about.
enum Target<'a> {
    Tool(Cow<'a, str>),
    Prompt(Cow<'a, str>),
    Resource(Cow<'a, str>),
    /// Nothing that can be filtered.
    Other,
}

impl Access {
    pub(super) fn new(
        principal: &Principal,
        backend: &str,
        grants: Vec<Grant>,
        filter: filter::Config,
    ) -> Self {
        let whole = grants.contains(&Grant::default());
        let restricted = !whole || !filter.is_open();
        let narrow =
            |kind: fn(&Grant) -> &Option<Globs>| grants.iter().all(|grant| kind(grant).is_some());
        let hides = Hides {
            tools: !filter.tools.is_open() || narrow(|grant| &grant.tools),
            prompts: !filter.prompts.is_open() || narrow(|grant| &grant.prompts),
            resources: !filter.resources.is_open() || narrow(|grant| &grant.resources),
        };
        Self {
            inner: Arc::new(Inner {
                principal: principal.clone(),
                backend: backend.to_owned(),
                grants,
                hides,
                filter,
                restricted,
            }),
        }
    }

    /// The lists in which what a message is about would have to stand. None where nothing of its
    /// kind is hidden: then the child may say itself what it doesn't have.
    #[must_use]
    pub fn lists_for(&self, frame: &Frame) -> &'static [List] {
        let hides = self.inner.hides;
        match frame.method() {
            "tools/call" if hides.tools => &[List::Tools],
            "prompts/get" if hides.prompts => &[List::Prompts],
            "completion/complete" => match Target::of_reference(frame) {
                Some(Target::Prompt(_)) if hides.prompts => &[List::Prompts],
                Some(Target::Resource(_)) if hides.resources => &[List::Templates, List::Resources],
                _ => &[],
            },
            _ => &[],
        }
    }

    /// The lists that its messages may ask for.
    #[must_use]
    pub fn lists(&self) -> Vec<List> {
        let Hides { tools, prompts, .. } = self.inner.hides;
        // Those of resources are for completions only, which few clients ask for.
        let tools = tools.then_some(List::Tools);
        let prompts = prompts.then_some(List::Prompts);
        tools.into_iter().chain(prompts).collect()
    }

    /// Decides about a client's message without knowing what the child has; see
    /// [`Access::check_listed`].
    ///
    /// # Errors
    /// As there.
    pub fn check(&self, frame: Frame, at: &Circumstances<'_>) -> Result<Permit, Denied> {
        self.check_listed(frame, at, &Listed::unknown())
    }

    /// Decides about a client's message. `listed` is what is known of [`Access::lists_for`] it.
    ///
    /// # Errors
    /// [`Denied`]: by a rule, or to be answered as if the thing did not exist.
    pub fn check_listed(
        &self,
        frame: Frame,
        at: &Circumstances<'_>,
        listed: &Listed,
    ) -> Result<Permit, Denied> {
        let inner = &*self.inner;
        // A child that goes by the method alone would run a call that nobody has judged as one.
        let notifies = frame.method().starts_with("notifications/");
        match frame.kind() {
            Kind::Request if notifies => return Err(Denied::Method),
            Kind::Notification if !notifies => return Err(Denied::Method),
            _ => {}
        }
        let asks = matches!(frame.kind(), Kind::Request | Kind::Notification);
        if !asks || (!inner.restricted && inner.filter.rules.is_empty()) {
            return Ok(Permit {
                frame,
                prune: Prune::nothing(),
                passed: Passed::default(),
                feigned: None,
            });
        }
        if !inner.filter.permits_method(frame.method()) {
            return Err(Denied::Method);
        }
        let target = Target::of(&frame)?;
        self.check_target(&target, listed)?;
        let prune = match &target {
            // What isn't known to be there may be missing.
            Target::Resource(uri) if inner.hides.resources && !listed.is_whole() => {
                Prune::of_errors_about(uri)
            }
            _ if inner.restricted => Prune::of_answer_to(frame.method(), self),
            _ => Prune::nothing(),
        };
        let passed = self.judge(&frame, target, at)?;
        Ok(Permit {
            frame,
            prune,
            passed,
            feigned: None,
        })
    }

    /// What the answer to a request that is under way loses from now on.
    #[must_use]
    pub fn prune_for(&self, method: &str, uri: Option<&str>) -> Prune {
        match uri.filter(|_| method == "resources/read") {
            Some(uri) if self.inner.hides.resources => Prune::of_errors_about(uri),
            _ if self.inner.restricted => Prune::of_answer_to(method, self),
            _ => Prune::nothing(),
        }
    }

    /// True when its principal sees less than all there is.
    #[must_use]
    pub fn is_restricted(&self) -> bool {
        self.inner.restricted
    }

    /// True when a message of the child may pass to this principal.
    #[must_use]
    pub fn permits_from_child(&self, frame: &Frame) -> bool {
        if !self.inner.restricted {
            return true;
        }
        let method = frame.method();
        if !self.inner.filter.permits_method(method) {
            return false;
        }
        match method {
            "notifications/resources/updated" => {
                frame.uri().is_some_and(|uri| self.permits_resource(&uri))
            }
            "notifications/tools/list_changed" => self.grants_any(|grant| &grant.tools),
            "notifications/prompts/list_changed" => self.grants_any(|grant| &grant.prompts),
            "notifications/resources/list_changed" => self.grants_any(|grant| &grant.resources),
            _ => true,
        }
    }

    /// A child's message as this principal may see it.
    ///
    /// # Errors
    /// [`Unreadable`]: it must not pass at all.
    pub fn redact(&self, frame: Frame) -> Result<Frame, Unreadable> {
        self.inner.filter.redact.apply(frame)
    }

    /// A child's raw result as this principal may see it; see [`Access::redact`].
    ///
    /// # Errors
    /// [`Unreadable`]: it must not pass at all.
    pub fn redact_result<'a>(&self, result: &'a [u8]) -> Result<Cow<'a, [u8]>, Unreadable> {
        self.inner.filter.redact.apply_to_result(result)
    }

    fn judge(
        &self,
        frame: &Frame,
        target: Target<'_>,
        at: &Circumstances<'_>,
    ) -> Result<Passed, Denied> {
        let inner = &*self.inner;
        if inner.filter.rules.is_empty() {
            return Ok(Passed::default());
        }
        let mut facts = Facts {
            method: frame.method(),
            tool: Cow::Borrowed(""),
            prompt: Cow::Borrowed(""),
            uri: Cow::Borrowed(""),
            args: frame.arguments(),
            principal: &inner.principal,
            backend: &inner.backend,
            session: at.session,
            client: at.client,
            time: at.time,
        };
        match target {
            Target::Tool(name) => facts.tool = name,
            Target::Prompt(name) => facts.prompt = name,
            Target::Resource(uri) => facts.uri = uri,
            Target::Other => {}
        }
        inner.filter.rules.judge(&facts).map_err(Denied::Rule)
    }

    fn check_target(&self, target: &Target<'_>, listed: &Listed) -> Result<(), Denied> {
        match target {
            Target::Tool(name) if !self.permits_tool(name) || listed.lacks(name) => {
                Err(Denied::Tool(name.clone().into_owned()))
            }
            Target::Prompt(name) if !self.permits_prompt(name) || listed.lacks(name) => {
                Err(Denied::Prompt(name.clone().into_owned()))
            }
            Target::Resource(uri) if !self.permits_resource(uri) || listed.lacks(uri) => {
                Err(Denied::Resource(uri.clone().into_owned()))
            }
            _ => Ok(()),
        }
    }

    /// What a message is about, when it is hidden or not in the lists that it would stand in.
    #[must_use]
    pub fn lacks(&self, frame: &Frame, listed: &Listed) -> Option<Denied> {
        let target = Target::of(frame).ok()?;
        self.check_target(&target, listed).err()
    }

    /// True when nothing of roles or filter stands against what was denied: it is not there.
    #[must_use]
    pub fn permits_target_of(&self, denied: &Denied) -> bool {
        match denied {
            Denied::Tool(name) => self.permits_tool(name),
            Denied::Prompt(name) => self.permits_prompt(name),
            Denied::Resource(uri) => self.permits_resource(uri),
            _ => false,
        }
    }

    pub(super) fn permits_tool(&self, name: &str) -> bool {
        self.inner.filter.tools.permits(name) && self.grants(|grant| &grant.tools, name)
    }

    pub(super) fn permits_prompt(&self, name: &str) -> bool {
        self.inner.filter.prompts.permits(name) && self.grants(|grant| &grant.prompts, name)
    }

    pub(super) fn permits_resource(&self, uri: &str) -> bool {
        // A glob over the text can't tell where `a/../b` leads, nor that `%61` is `a`.
        if self.inner.hides.resources && !filter::is_plain(uri) {
            return false;
        }
        self.inner.filter.resources.permits(uri) && self.grants(|grant| &grant.resources, uri)
    }

    /// True when any role grants the name.
    fn grants(&self, kind: impl Fn(&Grant) -> &Option<Globs>, name: &str) -> bool {
        let mut grants = self.inner.grants.iter().map(kind);
        grants.any(|globs| globs.as_ref().is_none_or(|globs| globs.matches(name)))
    }

    /// True when any role grants anything of a kind: else a change of the child's list changes
    /// nothing that this principal can see.
    fn grants_any(&self, kind: impl Fn(&Grant) -> &Option<Globs>) -> bool {
        let mut grants = self.inner.grants.iter().map(kind);
        grants.any(|globs| globs.as_ref().is_none_or(|globs| !globs.is_empty()))
    }
}

impl<'a> Target<'a> {
    /// # Errors
    /// [`Denied::Params`] when the message must be about something and doesn't say what.
    fn of(frame: &'a Frame) -> Result<Self, Denied> {
        Ok(match frame.method() {
            "tools/call" => Self::Tool(frame.name().ok_or(Denied::Params)?),
            "prompts/get" => Self::Prompt(frame.name().ok_or(Denied::Params)?),
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
                Self::Resource(frame.uri().ok_or(Denied::Params)?)
            }
            "completion/complete" => Self::of_reference(frame).ok_or(Denied::Params)?,
            _ => Self::Other,
        })
    }

    /// What a completion is for.
    fn of_reference(frame: &Frame) -> Option<Self> {
        Some(match frame.reference()? {
            Reference::Prompt(name) => Self::Prompt(Cow::Owned(name)),
            Reference::Resource(uri) => Self::Resource(Cow::Owned(uri)),
        })
    }
}
