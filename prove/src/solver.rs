//! A claim put to cvc5, through cedar-policy-symcc: the policies and the claim, as policies, have no request in common.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use cedar_policy::{ActionConstraint, Effect, PolicySet, RequestEnv};
use cedar_policy_symcc::err::Error;
use cedar_policy_symcc::solver::LocalSolver;
use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicy, CompiledPolicySet};
use policy::{Action, World};
use tokio::process::Command;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::{Claim, Subject};

/// The variable that names the solver's program; `cvc5` in `PATH` when it is not set.
pub const CVC5: &str = "CVC5";

/// How long the solver may think about one question.
pub const SOLVER_TIMEOUT: Duration = Duration::from_secs(30);

/// Most policies that are put to it at once: those about one action. Their formulas nest as deep as they are many.
pub const SOLVER_POLICIES_MAX: usize = 5_000;

/// What the thread that talks to it needs of stack, in bytes, for so many.
pub const STACK_BYTES: usize = 512 << 20;

/// What the solver came to about one claim.
#[derive(Debug)]
pub enum Solved {
    /// For each action through which the claim can be broken: none where it can't, or what breaks it, in words. Where something
    /// breaks it, others may be missing.
    Decided(BTreeMap<Action, Option<Found>>),
    /// Why there is no word of it.
    Unavailable(String),
}

/// What the solver found.
#[derive(Clone, Debug)]
pub struct Found {
    /// In one sentence.
    pub words: String,
    /// Whether the authoriser, asked the same, allows it.
    pub confirmed: bool,
}

/// A solver, as one process for all questions.
pub struct Solver {
    runtime: Option<Runtime>,
    program: OsString,
    limit: Duration,
    compiler: Option<CedarSymCompiler<LocalSolver>>,
    /// Its version, or why there is none.
    pub version: Result<String, String>,
}

/// One action's policies, compiled.
struct Compiled {
    env: RequestEnv,
    set: CompiledPolicySet,
    /// Policies that may fail. What fails is refused by the hub, and skipped by Cedar and in the solver's model.
    failing: Vec<String>,
}

/// A subject's policies as the solver's compiler has them.
pub struct Ready<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) world: World,
    compiled: BTreeMap<Action, Result<Compiled, String>>,
}

/// The policies about one action: the ceiling, and what permits it.
pub(crate) fn about(world: &World, action: Action) -> Result<PolicySet, String> {
    let names = |constraint: &ActionConstraint| match constraint {
        ActionConstraint::Eq(uid) => uid.id().unescaped() == action.as_str(),
        ActionConstraint::In(uids) => uids.iter().any(|uid| uid.id().unescaped() == action.as_str()),
        ActionConstraint::Any => true,
    };
    let mut set = PolicySet::new();
    for policy in world.ceiling().policies().chain(world.permits()).filter(|p| names(&p.action_constraint())) {
        set.add(policy.clone()).map_err(|e| e.to_string())?;
    }
    Ok(set)
}

/// The request environment of an action.
pub(crate) fn env_of(world: &World, action: Action) -> Result<RequestEnv, String> {
    let env = world.schema().request_envs().find(|env| env.action().id().unescaped() == action.as_str());
    env.ok_or_else(|| format!("the schema has no action `{}`", action.as_str()))
}

/// The claim as a compiled set of policies.
pub(crate) fn breaking(
    ready: &Ready<'_>,
    claim: &Claim,
    action: Action,
) -> Result<(PolicySet, CompiledPolicySet), String> {
    let texts = ready.subject.breaking(claim, action);
    if texts.len() > SOLVER_POLICIES_MAX {
        return Err(format!("more than {SOLVER_POLICIES_MAX} policies about one action"));
    }
    let policies = texts.iter().enumerate().map(|(n, text)| World::policy(&format!("claim-{n}"), text));
    let policies = policies.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    let set = PolicySet::from_policies(policies).map_err(|e| e.to_string())?;
    let env = env_of(&ready.world, action)?;
    let compiled = CompiledPolicySet::compile(&set, &env, ready.world.schema()).map_err(|e| e.to_string())?;
    Ok((set, compiled))
}

impl<'a> Ready<'a> {
    /// Reads a subject's policies for the solver.
    ///
    /// # Errors
    /// When they are none.
    pub fn new(subject: &'a Subject) -> Result<Self, policy::CompileError> {
        let world = subject.policies()?;
        Ok(Self { subject, world, compiled: BTreeMap::new() })
    }

    fn compile(&self, action: Action) -> Result<Compiled, String> {
        let set = about(&self.world, action)?;
        if set.policies().count() > SOLVER_POLICIES_MAX {
            return Err(format!("more than {SOLVER_POLICIES_MAX} policies about one action"));
        }
        let env = env_of(&self.world, action)?;
        let compiled = CompiledPolicySet::compile(&set, &env, self.world.schema()).map_err(|e| e.to_string())?;
        Ok(Compiled { env, set: compiled, failing: Vec::new() })
    }

    /// The compiled policies about an action.
    pub(crate) fn policies(&self, action: Action) -> Result<CompiledPolicySet, String> {
        match self.compiled.get(&action) {
            Some(Ok(compiled)) => Ok(compiled.set.clone()),
            Some(Err(why)) => Err(why.clone()),
            None => self.compile(action).map(|c| c.set),
        }
    }
}

impl Solver {
    /// Looks for the program that `CVC5` names, or `cvc5` in `PATH`.
    pub fn find() -> Self {
        Self::at(std::env::var_os(CVC5).filter(|v| !v.is_empty()).unwrap_or_else(|| "cvc5".into()), SOLVER_TIMEOUT)
    }

    /// Takes this program, which may think about one question for so long.
    pub fn at(program: OsString, limit: Duration) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let version = match &runtime {
            Ok(runtime) => runtime.block_on(version(&program, limit)),
            Err(error) => Err(format!("no runtime: {error}")),
        };
        Self { runtime: runtime.ok(), program, limit, compiler: None, version }
    }

    /// Decides a claim for all homes.
    pub fn solve(&mut self, ready: &mut Ready<'_>, claim: &Claim) -> Solved {
        if let Err(why) = &self.version {
            return Solved::Unavailable(why.clone());
        }
        let Some(runtime) = self.runtime.take() else { return Solved::Unavailable("no runtime".to_owned()) };
        let mut all = BTreeMap::new();
        let mut failed = None;
        for action in claim.actions() {
            match runtime.block_on(self.one(ready, claim, action)) {
                Ok(found) => drop(all.insert(action, found)),
                Err(why) => {
                    // What it still has to say belongs to no question.
                    self.compiler = None;
                    failed = Some(format!("{}: {why}", action.as_str()));
                    break;
                }
            }
        }
        self.runtime = Some(runtime);
        // What was found stands, whatever could not be asked after it.
        let is_refuted = all.values().any(Option::is_some);
        failed.filter(|_| !is_refuted).map_or(Solved::Decided(all), Solved::Unavailable)
    }

    fn start(&mut self) -> Result<&mut CedarSymCompiler<LocalSolver>, String> {
        if self.compiler.is_none() {
            let mut command = Command::new(&self.program);
            let limit = format!("--tlimit-per={}", self.limit.as_millis());
            command.args(["--lang", "smt", &limit]).kill_on_drop(true);
            let solver = LocalSolver::from_command(&mut command).map_err(|e| e.to_string())?;
            self.compiler = Some(CedarSymCompiler::new(solver).map_err(|e| e.to_string())?);
        }
        self.compiler.as_mut().ok_or_else(|| "no solver".to_owned())
    }

    async fn one(&mut self, ready: &mut Ready<'_>, claim: &Claim, action: Action) -> Result<Option<Found>, String> {
        if !ready.compiled.contains_key(&action) {
            let mut compiled = ready.compile(action);
            if let Ok(compiled) = &mut compiled {
                compiled.failing = self.failing(&ready.world, action, &compiled.env).await?;
            }
            ready.compiled.insert(action, compiled);
        }
        let policies = match ready.compiled.get(&action) {
            Some(Ok(compiled)) => compiled,
            Some(Err(why)) => return Err(why.clone()),
            None => return Err("nothing was compiled".to_owned()),
        };
        if !policies.failing.is_empty() {
            let which = policies.failing.join(", ");
            return Err(format!(
                "{which} can fail; what fails is refused by the hub, and its model has no word for that"
            ));
        }
        let (set, breaking) = breaking(ready, claim, action)?;
        let limit = self.limit;
        let asked = self.start()?.check_disjoint_with_counterexample_opt(&policies.set, &breaking);
        let found = match timeout(limit, asked).await {
            Err(_) => return Err(too_long(limit)),
            Ok(Err(error)) => return Err(words(&error)),
            Ok(Ok(found)) => found,
        };
        Ok(found.map(|env| {
            let (answer, by) = ready.world.ask_in(&env.request, &env.entities);
            let meant = cedar_policy::Authorizer::new().is_authorized(&env.request, &set, &env.entities);
            let is_meant = meant.decision() == cedar_policy::Decision::Allow;
            Found {
                words: told(&env, action, &by),
                confirmed: answer.is_ok() && is_meant && ready.subject.replay(&env, action),
            }
        }))
    }

    /// The policies of the ceiling that may fail in this environment.
    async fn failing(&mut self, world: &World, action: Action, env: &RequestEnv) -> Result<Vec<String>, String> {
        let limit = self.limit;
        let mut failing = Vec::new();
        let ceiling = about(world, action)?;
        for policy in ceiling.policies().filter(|p| p.effect() == Effect::Forbid) {
            let compiled = CompiledPolicy::compile(policy, env, world.schema()).map_err(|e| e.to_string())?;
            match timeout(limit, self.start()?.check_never_errors_opt(&compiled)).await {
                Err(_) => return Err(too_long(limit)),
                Ok(Err(error)) => return Err(words(&error)),
                Ok(Ok(never)) => {
                    if !never {
                        failing.push(policy.id().to_string());
                    }
                }
            }
        }
        Ok(failing)
    }
}

fn too_long(limit: Duration) -> String {
    format!("the solver thought for longer than {} s", limit.as_secs_f32())
}

fn words(error: &Error) -> String {
    match error {
        Error::SolverUnknown => "the solver does not know (or thought for too long)".to_owned(),
        other => other.to_string(),
    }
}

async fn version(program: &OsString, limit: Duration) -> Result<String, String> {
    let shown = program.to_string_lossy().into_owned();
    let mend = "install cvc5 (Debian: apt-get install cvc5), or name it by CVC5";
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    match timeout(limit, command.output()).await {
        Err(_) => Err(format!("`{shown} --version` gave no answer: {mend}")),
        Ok(Err(error)) => Err(format!("`{shown}` can't be started ({error}): {mend}")),
        Ok(Ok(output)) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let first = text.lines().find(|line| line.contains("cvc5"));
            let first = first.ok_or_else(|| format!("`{shown}` is not cvc5: {mend}"))?;
            Ok(first.trim_start_matches("This is ").split(" [").next().unwrap_or_default().trim().to_owned())
        }
    }
}

/// A counterexample in words.
fn told(env: &cedar_policy_symcc::Env, action: Action, by: &[String]) -> String {
    let seen = crate::subject::Seen::of(env);
    format!(
        "{} {}: the {} of a {}, by {}",
        seen.partner,
        crate::exhaustive::doing(action, seen.rung),
        seen.property.map_or("property", model::Property::label),
        seen.device_type.map_or("device", model::DeviceType::neutral_name).to_lowercase(),
        by.join(", ")
    )
}
