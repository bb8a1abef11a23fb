//! JSON lines: the contract with scripts and log pipelines. Kernel addresses never get here.

use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::check::{Expectation, Pasid, Read, Resolved, Step, Value, Violation};
use crate::event::DeviceState;
use crate::model::{Actor, DomainName};
use crate::watcher::{CheckChange, EventLine, Loss, Report, Suppressed};

use super::Context;

mod group;

pub use group::group;
use group::{TableObject, state_line, table};

/// The version of the lines: it changes when a field changes its meaning or goes.
const VERSION: u32 = 1;

/// One report as one line, without its newline.
pub fn line(report: &Report, context: &Context<'_>) -> String {
    let mono_ns = report.mono_ns();
    match report {
        Report::Violation(violation) | Report::Restated(violation) => {
            render("violation", mono_ns, context, violation_line(violation, context))
        }
        Report::Resolved(resolved) => render("resolved", mono_ns, context, resolved_line(resolved, context)),
        Report::Loss(loss) => render("loss", mono_ns, context, loss_line(loss)),
        Report::State(state) => render("state", mono_ns, context, state_line(state, context)),
        Report::CheckState(change) => render("check-state", mono_ns, context, check_line(change)),
        Report::Suppressed(told) => render("suppressed", mono_ns, context, suppressed_line(told)),
        Report::Event(event) => render("event", mono_ns, context, event_line(event)),
    }
}

/// A violation as an object, as /api/v1/violations and the one-shot give it.
pub fn violation(violation: &Violation, context: &Context<'_>) -> Json {
    let mut object = json!({ "ts": context.clock.rfc3339(violation.mono_ns), "mono_ns": violation.mono_ns });
    merge(&mut object, violation_line(violation, context));
    object
}

#[derive(Serialize)]
struct Line<'a, T> {
    v: u32,
    kind: &'static str,
    ts: String,
    mono_ns: u64,
    host: &'a str,
    kernel: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    synthetic: bool,
    #[serde(flatten)]
    body: T,
}

fn render<T: Serialize>(kind: &'static str, mono_ns: u64, context: &Context<'_>, body: T) -> String {
    let ts = context.clock.rfc3339(mono_ns);
    let Context { host, kernel, synthetic, .. } = *context;
    let line = Line { v: VERSION, kind, ts, mono_ns, host, kernel, synthetic, body };
    serde_json::to_string(&line).unwrap_or_else(|error| json!({ "error": error.to_string() }).to_string())
}

#[derive(Serialize)]
struct ViolationLine<'a> {
    check: &'static str,
    severity: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<ExpectedObject<'a>>,
    fingerprint: String,
    first_seen: String,
    last_seen: String,
    count: u64,
    group: Option<u32>,
    devices: &'a [String],
    iommu_driver: Option<&'a str>,
    pasid: Vec<u32>,
    domain: Option<DomainObject>,
    summary: &'a str,
    attached_by: Option<ActorObject>,
    triggered_by: Option<ActorObject>,
    implied: Vec<&'static str>,
    attachments: Vec<AttachmentObject>,
    evidence: Evidence,
    confidence: &'static str,
    docs: String,
}

fn violation_line<'a>(violation: &'a Violation, context: &Context<'_>) -> ViolationLine<'a> {
    ViolationLine {
        check: violation.check.name,
        severity: violation.severity.name(),
        expected: violation.expected.as_deref().map(expected),
        fingerprint: violation.fingerprint.to_string(),
        first_seen: context.clock.rfc3339(violation.mono_ns),
        last_seen: context.clock.rfc3339(violation.last_ns),
        count: violation.count,
        group: violation.group,
        devices: &violation.devices,
        iommu_driver: violation.iommu_driver.as_deref(),
        pasid: violation.pasids.iter().map(|pasid| pasid.pasid).collect(),
        domain: violation.domain.as_ref().map(domain),
        summary: &violation.summary,
        attached_by: violation.attached_by().map(|by| actor(by, context)),
        triggered_by: violation.triggered_by.as_ref().map(|by| actor(by, context)),
        implied: violation.implied.iter().map(|implied| implied.check).collect(),
        attachments: violation.pasids.iter().map(|pasid| attachment(pasid, context)).collect(),
        evidence: Evidence {
            events: violation.evidence.iter().map(|step| step_object(step, context)).collect(),
            read: violation.read.iter().map(|value| read(value, context)).collect(),
        },
        confidence: violation.confidence.name(),
        docs: violation.check.docs(),
    }
}

#[derive(Serialize)]
struct ExpectedObject<'a> {
    reason: &'a str,
    until: String,
}

fn expected(expectation: &Expectation) -> ExpectedObject<'_> {
    ExpectedObject { reason: &expectation.reason, until: expectation.until.to_string() }
}

#[derive(Serialize)]
struct DomainObject {
    name: String,
    kind: &'static str,
}

fn domain(domain: &DomainName) -> DomainObject {
    DomainObject { name: domain.name.clone(), kind: domain.kind }
}

#[derive(Serialize)]
struct ActorObject {
    pid: u32,
    tgid: u32,
    comm: String,
    ts: String,
    stack: Option<Vec<String>>,
}

fn actor(actor: &Actor, context: &Context<'_>) -> ActorObject {
    ActorObject {
        pid: actor.tid,
        tgid: actor.tgid,
        comm: actor.comm.to_string(),
        ts: context.clock.rfc3339(actor.mono_ns),
        stack: actor.stack.and_then(|id| context.stacks.frames(id)),
    }
}

#[derive(Serialize)]
struct AttachmentObject {
    pasid: u32,
    domain: Option<DomainObject>,
    attached_by: Option<ActorObject>,
}

fn attachment(pasid: &Pasid, context: &Context<'_>) -> AttachmentObject {
    AttachmentObject {
        pasid: pasid.pasid,
        domain: pasid.domain.as_ref().map(domain),
        attached_by: pasid.attached_by.as_ref().map(|by| actor(by, context)),
    }
}

#[derive(Serialize)]
struct Evidence {
    events: Vec<StepObject>,
    read: Vec<Json>,
}

#[derive(Serialize)]
struct StepObject {
    name: &'static str,
    ts: String,
    pid: u32,
    comm: String,
    device: Option<String>,
    pasid: Option<u32>,
    domain: Option<DomainObject>,
    ret: Option<i32>,
}

fn step_object(step: &Step, context: &Context<'_>) -> StepObject {
    StepObject {
        name: step.event.hook.name(),
        ts: context.clock.rfc3339(step.event.mono_ns),
        pid: step.event.tid,
        comm: step.event.comm.to_string(),
        device: step.event.device.as_deref().map(str::to_owned),
        pasid: step.event.pasid,
        domain: step.domain.as_ref().map(domain),
        ret: step.event.ret,
    }
}

fn read(read: &Read, context: &Context<'_>) -> Json {
    let value = match &read.value {
        Value::Count(count) => json!(count),
        Value::Flag(flag) => json!(flag),
        Value::Pasids(pasids) => json!(pasids),
        Value::Domain(name) => to_json(name.as_ref().map(domain)),
        Value::Names(names) => json!(names),
        Value::Task(by) => to_json(by.as_ref().map(|by| actor(by, context))),
    };
    json!({ "what": read.what, "value": value })
}

#[derive(Serialize)]
struct ResolvedLine<'a> {
    check: &'static str,
    severity: &'static str,
    fingerprint: String,
    group: Option<u32>,
    devices: &'a [String],
    reason: &'static str,
    raised: String,
    last_seen: String,
    count: u64,
}

fn resolved_line<'a>(resolved: &'a Resolved, context: &Context<'_>) -> ResolvedLine<'a> {
    ResolvedLine {
        check: resolved.check.name,
        severity: resolved.severity.name(),
        fingerprint: resolved.fingerprint.to_string(),
        group: resolved.group,
        devices: &resolved.devices,
        reason: resolved.reason.name(),
        raised: context.clock.rfc3339(resolved.raised_ns),
        last_seen: context.clock.rfc3339(resolved.last_ns),
        count: resolved.count,
    }
}

#[derive(Serialize)]
struct LossLine<'a> {
    stage: &'static str,
    count: u64,
    total: u64,
    groups: Option<&'a [u32]>,
}

fn loss_line(loss: &Loss) -> LossLine<'_> {
    LossLine {
        stage: loss.stage.name(),
        count: loss.count,
        total: loss.total,
        groups: loss.groups.as_deref(),
    }
}

#[derive(Serialize)]
struct CheckLine<'a> {
    check: &'static str,
    severity: &'static str,
    state: &'static str,
    reason: Option<&'a str>,
}

fn check_line(change: &CheckChange) -> CheckLine<'_> {
    CheckLine {
        check: change.check.name,
        severity: change.check.severity().name(),
        state: change.state.name(),
        reason: change.state.reason(),
    }
}

#[derive(Serialize)]
struct SuppressedLine {
    reason: &'static str,
    lines: u64,
    total: u64,
    checks: Vec<SuppressedCheck>,
}

#[derive(Serialize)]
struct SuppressedCheck {
    check: &'static str,
    lines: u64,
}

fn suppressed_line(told: &Suppressed) -> SuppressedLine {
    SuppressedLine {
        reason: told.by.name(),
        lines: told.lines,
        total: told.total,
        checks: told.checks.iter().map(|&(check, lines)| SuppressedCheck { check, lines }).collect(),
    }
}

#[derive(Serialize)]
struct EventObject<'a> {
    name: &'static str,
    phase: &'static str,
    cpu: u32,
    pid: u32,
    tgid: u32,
    comm: &'a str,
    group: Option<u32>,
    device: Option<&'a str>,
    domain: Option<DomainObject>,
    pasid: Option<u32>,
    ret: Option<i32>,
    owner_cnt: Option<u32>,
    owned: Option<bool>,
    pasids: Option<&'a [u32]>,
    pasids_complete: Option<bool>,
    attached: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<StateObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<TableObject>,
}

#[derive(Serialize)]
struct StateObject {
    bound: bool,
    deferred: bool,
    blocked: bool,
    ats: Option<bool>,
    pri: Option<bool>,
    pasid: Option<bool>,
}

fn device_state(state: &DeviceState) -> StateObject {
    let DeviceState { bound, deferred, blocked, ats, pri, pasid, .. } = *state;
    StateObject { bound, deferred, blocked, ats, pri, pasid }
}

fn event_line(event: &EventLine) -> EventObject<'_> {
    EventObject {
        name: event.hook.name(),
        phase: super::phase(event.phase),
        cpu: event.cpu,
        pid: event.actor.tid,
        tgid: event.actor.tgid,
        comm: &event.actor.comm,
        group: event.group,
        device: event.device.as_deref(),
        domain: event.domain.as_ref().map(domain),
        pasid: event.pasid,
        ret: event.ret,
        owner_cnt: event.ownership.map(|ownership| ownership.count),
        owned: event.ownership.map(|ownership| ownership.owner.is_some()),
        pasids: event.pasids.as_ref().map(|(pasids, _)| pasids.as_slice()),
        pasids_complete: event.pasids.as_ref().map(|(_, complete)| *complete),
        attached: event.attached,
        state: event.state.as_ref().map(device_state),
        table: event.table.as_deref().map(table),
    }
}

fn to_json<T: Serialize>(value: T) -> Json {
    serde_json::to_value(value).unwrap_or(Json::Null)
}

fn merge<T: Serialize>(object: &mut Json, more: T) {
    if let (Json::Object(object), Json::Object(more)) = (object, to_json(more)) {
        object.extend(more);
    }
}
