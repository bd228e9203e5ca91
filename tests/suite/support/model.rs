//! What DESIGN says of grants, said once more and simply: an oracle for the ledger to be held against.
//!
//! It uses nothing of the product. A scope is the explicit set of the calls that it allows, a tree is a
//! list of parents, a cut is a mark that every look walks up to. Times are milliseconds.

use std::collections::BTreeSet;

/// A universe small enough to enumerate. `n` stands for every name that no pattern knows, so that
/// a wildcard always allows more than any list of names.
const TOOLS: [&str; 2] = ["a", "b"];
const ACTIONS: [&str; 4] = ["x", "x.y", "x.n", "n"];
const RESOURCES: [&str; 7] = ["p", "p/q", "p/n", "p/q/n", "n", "n/q", "n/n/n"];
const ACTION_PATTERNS: [&str; 4] = ["*", "x.*", "x", "x.y"];
const RESOURCE_PATTERNS: [&str; 7] = ["**", "p/**", "*", "p/*", "*/q", "p/q", "p"];

/// What is over stays known for so long.
const GRACE: i64 = 5 * 60_000;
const LONGEST_CHAIN: usize = 16;

/// Indices into [`universe`].
pub type Calls = BTreeSet<usize>;

/// Every call there is: tool, action, resource.
pub fn universe() -> Vec<(&'static str, &'static str, &'static str)> {
    let of_tool = |tool| ACTIONS.iter().flat_map(move |action| RESOURCES.map(|resource| (tool, *action, resource)));
    TOOLS.iter().flat_map(|tool| of_tool(*tool)).collect()
}

/// Every pattern there is.
pub fn patterns() -> Vec<String> {
    let of_tool = |tool| {
        ACTION_PATTERNS.iter().flat_map(move |action| RESOURCE_PATTERNS.map(|path| format!("{tool}:{action}@{path}")))
    };
    TOOLS.iter().flat_map(|tool| of_tool(*tool)).collect()
}

/// The calls that a pattern allows.
pub fn calls(pattern: &str) -> Calls {
    let (tool, rest) = pattern.split_once(':').unwrap();
    let (action, resource) = rest.split_once('@').unwrap();
    let allows = |call: &(&str, &str, &str)| call.0 == tool && action_is(action, call.1) && path_is(resource, call.2);
    universe().iter().enumerate().filter(|(_, call)| allows(call)).map(|(at, _)| at).collect()
}

fn action_is(pattern: &str, action: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(before) => action.starts_with(before) && action.len() > before.len(),
        None => action == pattern,
    }
}

fn path_is(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    let fits = |(name, part): (&&str, &&str)| *name == "*" || *name == "**" || name == part;
    let long_enough = match pattern.last() {
        Some(&"**") => path.len() >= pattern.len(),
        _ => path.len() == pattern.len(),
    };
    long_enough && pattern.iter().zip(&path).all(fits)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Active,
    Suspended,
    Over,
}

#[derive(Clone, Debug)]
pub struct Agent {
    pub owner: &'static str,
    pub ceiling: Option<Calls>,
    pub max_ttl: Option<i64>,
    pub status: Status,
}

#[derive(Clone, Debug)]
pub struct Task {
    pub agent: usize,
    pub subject: Option<&'static str>,
    pub deadline: i64,
    pub ended: bool,
    began: i64,
}

#[derive(Clone, Debug)]
pub struct Grant {
    pub parent: Option<usize>,
    pub task: usize,
    pub agent: usize,
    pub allows: Calls,
    pub expires: i64,
    pub renewable_until: i64,
    /// `Over`: given back.
    pub status: Status,
    /// How many things had been done before it.
    born: usize,
}

#[derive(Clone, Debug)]
pub struct Token {
    pub grant: usize,
    pub expires: i64,
}

/// What a revoke names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Grant(usize),
    Task(usize),
    Token(usize),
    Agent(usize),
    Owner(&'static str),
    Subject(&'static str),
}

/// What a revoke answers: known, grants, tokens.
pub type Cut = (bool, u64, u64);

/// Everything that was ever done, in the order of its indices.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub now: i64,
    pub agents: Vec<Agent>,
    pub tasks: Vec<Task>,
    pub grants: Vec<Grant>,
    pub tokens: Vec<Token>,
    cuts: Vec<(Target, usize)>,
    /// When each subject was cut last: the tasks that had begun on its word are over.
    silenced: std::collections::BTreeMap<&'static str, i64>,
    done: usize,
    /// When the last thing was recorded: what was over for long by then is forgotten.
    recorded: i64,
}

impl Model {
    pub fn new(now: i64) -> Self {
        Self { now, ..Self::default() }
    }

    /// Something was recorded.
    fn record(&mut self) {
        self.done += 1;
        self.recorded = self.now;
    }

    fn forgotten(&self, end: i64) -> bool {
        end + GRACE <= self.recorded
    }

    pub fn knows_grant(&self, at: usize) -> bool {
        !self.forgotten(self.grants[at].expires)
    }

    fn knows_task(&self, at: usize) -> bool {
        !self.forgotten(self.tasks[at].deadline)
    }

    fn knows_token(&self, at: usize) -> bool {
        !self.forgotten(self.tokens[at].expires)
    }

    /// From a grant up to its root.
    pub fn chain(&self, at: usize) -> Vec<usize> {
        std::iter::successors(Some(at), |link| self.grants[*link].parent).collect()
    }

    fn is_cut(&self, link: usize) -> bool {
        let grant = &self.grants[link];
        let names = |target: Target| match target {
            Target::Grant(id) => id == link,
            Target::Task(id) => id == grant.task,
            Target::Token(_) => false,
            Target::Agent(agent) => agent == grant.agent,
            Target::Owner(owner) => self.agents[grant.agent].owner == owner,
            Target::Subject(subject) => self.tasks[grant.task].subject == Some(subject),
        };
        self.cuts.iter().any(|(target, when)| names(*target) && grant.born <= *when)
    }

    /// How a grant stands, by the worst that anything on its chain came to; none once it is forgotten.
    pub fn state(&self, at: usize) -> Option<&'static str> {
        let chain = self.chain(at);
        let any = |bad: &dyn Fn(&Grant) -> bool| chain.iter().any(|link| bad(&self.grants[*link]));
        let agent = |grant: &Grant| self.agents[grant.agent].status;
        let state = if chain.iter().any(|link| self.is_cut(*link)) || any(&|grant| agent(grant) == Status::Over) {
            "revoked"
        } else if any(&|grant| self.tasks[grant.task].ended || grant.status == Status::Over) {
            "completed"
        } else if any(&|grant| self.now >= grant.expires || self.now >= self.tasks[grant.task].deadline) {
            "expired"
        } else if any(&|grant| grant.status == Status::Suspended || agent(grant) == Status::Suspended) {
            "suspended"
        } else {
            "active"
        };
        self.knows_grant(at).then_some(state)
    }

    fn is_live(&self, at: usize) -> bool {
        self.state(at) == Some("active")
    }

    fn has_ended(&self, at: usize) -> bool {
        !matches!(self.state(at), Some("active" | "suspended"))
    }

    /// The calls that a token is good for now.
    pub fn good_for(&self, at: usize) -> Calls {
        let token = &self.tokens[at];
        let dead = self.now >= token.expires || self.token_is_cut(at) || !self.is_live(token.grant);
        if dead { Calls::new() } else { self.grants[token.grant].allows.clone() }
    }

    fn token_is_cut(&self, at: usize) -> bool {
        self.cuts.iter().any(|(target, _)| *target == Target::Token(at))
    }

    pub fn start_task(&mut self, agent: usize, subject: Option<&'static str>, ttl: i64) -> bool {
        let may = self.agents[agent].status == Status::Active;
        if may {
            self.tasks.push(Task { agent, subject, deadline: self.now + ttl, ended: false, began: self.now });
            self.record();
        }
        may
    }

    pub fn request(&mut self, agent: usize, task: usize, wanted: &[String], ttl: i64) -> bool {
        let (holder, of) = (&self.agents[agent], &self.tasks[task]);
        let cut = self.cuts.iter().any(|(target, _)| *target == Target::Task(task));
        let silenced = of.subject.and_then(|subject| self.silenced.get(subject)).is_some_and(|at| of.began <= *at);
        let open = of.agent == agent && !cut && !silenced && !of.ended && self.now < of.deadline;
        let may = holder.status == Status::Active && open && self.is_bounded(agent, wanted, None);
        if may {
            self.issue(None, task, agent, wanted, ttl);
        }
        may
    }

    pub fn delegate(&mut self, by: usize, parent: usize, to: usize, wanted: &[String], ttl: i64) -> bool {
        let may = self.agents[by].status == Status::Active
            && self.agents[to].status == Status::Active
            && self.grants[parent].agent == by
            && self.is_live(parent)
            && self.chain(parent).len() < LONGEST_CHAIN
            && self.is_bounded(to, wanted, Some(&self.grants[parent].allows));
        if may {
            self.issue(Some(parent), self.grants[parent].task, to, wanted, ttl);
        }
        may
    }

    /// Something is wanted, nothing twice, all of it within the parent and the holder's ceiling.
    fn is_bounded(&self, holder: usize, wanted: &[String], parent: Option<&Calls>) -> bool {
        let all: Calls = wanted.iter().flat_map(|pattern| calls(pattern)).collect();
        let within = |bound: &Calls| all.is_subset(bound);
        let distinct = wanted.iter().collect::<BTreeSet<_>>().len() == wanted.len();
        let ceiling = self.agents[holder].ceiling.as_ref();
        !wanted.is_empty() && distinct && parent.is_none_or(within) && ceiling.is_none_or(within)
    }

    fn issue(&mut self, parent: Option<usize>, task: usize, agent: usize, wanted: &[String], ttl: i64) {
        let longest = self.agents[agent].max_ttl.map(|max| self.now + max);
        let above = parent.map(|parent| &self.grants[parent]);
        let bounds = [Some(self.tasks[task].deadline), longest, above.map(|above| above.renewable_until)];
        let renewable_until = bounds.into_iter().flatten().min().unwrap();
        let expires = (self.now + ttl).min(renewable_until).min(above.map_or(i64::MAX, |above| above.expires));
        let allows = wanted.iter().flat_map(|pattern| calls(pattern)).collect();
        self.record();
        let born = self.done;
        self.grants.push(Grant { parent, task, agent, allows, expires, renewable_until, status: Status::Active, born });
    }

    pub fn renew(&mut self, by: usize, at: usize, ttl: i64) -> bool {
        let grant = &self.grants[at];
        let may = self.agents[by].status == Status::Active && grant.agent == by && self.is_live(at);
        if may {
            let above = grant.parent.map_or(i64::MAX, |parent| self.grants[parent].expires);
            let wanted = (self.now + ttl).min(grant.renewable_until).min(above);
            if wanted > grant.expires {
                self.grants[at].expires = wanted;
                self.record();
            }
        }
        may
    }

    /// Tokens hold whole seconds, and need one.
    pub fn token(&mut self, by: usize, at: usize) -> bool {
        let grant = &self.grants[at];
        let expires = grant.expires / 1000 * 1000;
        let holds = self.agents[by].status == Status::Active && grant.agent == by && self.is_live(at);
        let may = holds && expires > self.now;
        if may {
            self.tokens.push(Token { grant: at, expires });
            self.record();
        }
        may
    }

    /// Suspends or resumes a grant, as a responder.
    pub fn halt(&mut self, at: usize, status: Status) -> bool {
        let may = self.knows_grant(at) && !self.has_ended(at);
        if may && self.grants[at].status != status {
            self.grants[at].status = status;
            self.record();
        }
        may
    }

    pub fn complete(&mut self, by: usize, at: usize) -> bool {
        let may = self.knows_grant(at) && self.grants[at].agent == by;
        if may && !self.has_ended(at) {
            self.grants[at].status = Status::Over;
            self.record();
        }
        may
    }

    pub fn end_task(&mut self, by: usize, at: usize) -> bool {
        let task = &self.tasks[at];
        let may = self.knows_task(at) && task.agent == by;
        if may && !task.ended && self.now < task.deadline {
            self.tasks[at].ended = true;
            self.record();
        }
        may
    }

    pub fn set_agent(&mut self, at: usize, status: Status) -> bool {
        let before = self.agents[at].status;
        let may = before == status || before != Status::Over;
        if may && before != status {
            self.agents[at].status = status;
            self.record();
        }
        may
    }

    /// By a responder, or by an agent, which cuts only what it holds and what is below.
    pub fn revoke(&mut self, by: Option<usize>, target: Target) -> Option<Cut> {
        let known = match target {
            Target::Grant(at) => self.knows_grant(at),
            Target::Task(at) => self.knows_task(at),
            Target::Token(at) => self.knows_token(at),
            Target::Agent(_) | Target::Owner(_) => true,
            Target::Subject(subject) => {
                (0..self.tasks.len()).any(|at| self.knows_task(at) && self.tasks[at].subject == Some(subject))
            }
        };
        let holds = |agent: usize, at: usize| self.chain(at).iter().any(|link| self.grants[*link].agent == agent);
        let may = match (by, target) {
            (None, Target::Subject(_)) => known,
            (None, _) => true,
            (Some(agent), Target::Grant(at)) => known && holds(agent, at),
            (Some(agent), Target::Token(at)) => known && holds(agent, self.tokens[at].grant),
            (Some(agent), Target::Task(at)) => known && self.tasks[at].agent == agent,
            (Some(agent), Target::Agent(other)) => agent == other,
            (Some(_), Target::Owner(_) | Target::Subject(_)) => false,
        };
        if !may {
            return None;
        }
        let before = self.clone();
        // What has an id is cut for good: to cut it again is nothing to record.
        let has_id = matches!(target, Target::Grant(_) | Target::Task(_) | Target::Token(_));
        if !has_id || self.cuts.iter().all(|(cut, _)| *cut != target) {
            self.record();
            self.cuts.push((target, self.done));
        }
        if let Target::Subject(subject) = target {
            self.silenced.insert(subject, self.now);
        }
        let died = |at: &usize| !before.has_ended(*at) && self.has_ended(*at);
        let dead: Vec<usize> = (0..self.grants.len()).filter(died).collect();
        let open = |at: &usize| {
            let token = &before.tokens[*at];
            let by_grant = dead.contains(&token.grant);
            self.now < token.expires && !before.token_is_cut(*at) && (by_grant || target == Target::Token(*at))
        };
        let tokens = (0..self.tokens.len()).filter(open).count();
        Some((known, dead.len() as u64, tokens as u64))
    }
}
