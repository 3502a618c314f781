//! What must hold after any fault, whatever it was and wherever it struck. One function each.

use sandbox::TokenKind;
use sqlx::Row;

use super::{
    Fault,
    stage::Stage,
    work::{End, Work, effects, live},
};
use crate::harness::in_the_end;

/// The longest that an act may be neither settled, nor not sent, nor ambiguous, in milliseconds: its time to be sent, the provider's
/// own time limit, and the grace of ten seconds. The sweep that comes after looks every second.
const STATED_MS: i64 = 5_000 + 10_000 + 10_000;

/// All of them.
pub(super) async fn all_hold(stage: &Stage, work: Work, end: End, fault: Fault, cell: &str) {
    every_act_has_ended(stage, cell).await;
    no_effect_is_repeated(stage, work, end, cell);
    no_budget_is_wrong(stage, cell).await;
    no_token_is_shown_twice(stage, cell);
    no_grant_is_lost(stage, cell).await;
    if work == Work::Disconnect {
        nothing_opens_what_was_disconnected(stage, cell).await;
    }
    if work == Work::Refresh && fault == Fault::StopNode {
        assert_eq!(end, End::Done, "{cell}: nothing was lost, so the owner need not be asked");
    }
}

/// Every act is settled, not sent or ambiguous within the stated time.
pub(super) async fn every_act_has_ended(stage: &Stage, cell: &str) {
    let stated =
        "select coalesce(max(extract(epoch from give_up_at - admitted_at) * 1000), 0)::bigint from keyholder.acts";
    assert!(stage.count(stated).await <= STATED_MS, "{cell}: an act may hang for longer than is stated");
    let hanging = "select count(*) from keyholder.acts where state = 'admitted'";
    in_the_end(&format!("{cell}: every act has ended"), async || stage.count(hanging).await == 0).await;
}

/// The platform saw the act at most once, and exactly once where the caller was told that it is done.
fn no_effect_is_repeated(stage: &Stage, work: Work, end: End, cell: &str) {
    let seen = effects(stage.sandbox.platform());
    let allowed = match (work, end) {
        (Work::Act, End::Done) => 1..=1,
        (Work::Act, End::Ambiguous) => 0..=1,
        _ => 0..=0,
    };
    assert!(allowed.contains(&seen), "{cell}: {seen} effects after {end:?}");
}

/// No budget is above its cap, and each counts just what was settled and what nobody can know.
pub(super) async fn no_budget_is_wrong(stage: &Stage, cell: &str) {
    let budgets = "select b.unit, b.used, b.cap, coalesce((select sum(h.units) from keyholder.acts a, \
         unnest(a.held, a.held_units, a.held_windows) h(id, units, opened) \
         where a.state <> 'not_sent' and h.id = b.id and h.opened = b.window_start), 0)::bigint as held \
         from keyholder.budgets b where b.workspace_id is not null";
    for row in sqlx::query(budgets).fetch_all(&mut stage.owner().await).await.unwrap() {
        let (unit, used, cap, held): (String, i64, i64, i64) = (row.get(0), row.get(1), row.get(2), row.get(3));
        assert!(used <= cap, "{cell}: {used} of {cap} {unit}");
        assert_eq!(used, held, "{cell}: the {unit} that are counted are not those that were taken");
    }
}

/// No spent refresh token and no spent code is ever shown to the platform, which would end the grant as theft.
fn no_token_is_shown_twice(stage: &Stage, cell: &str) {
    let platform = stage.sandbox.platform();
    assert_eq!((platform.replays_punished(), platform.code_reuses_punished()), (0, 0), "{cell}");
}

/// As many grants are live at the platform as there are connections here that hold one: none is lost, and none lives on that nobody here
/// holds and nobody will revoke.
async fn no_grant_is_lost(stage: &Stage, cell: &str) {
    let held = "select count(distinct connection_id) from keyholder.credentials";
    in_the_end(&format!("{cell}: as many grants are live at the platform as are held here"), async || {
        stage.hurry_jobs().await;
        let held = usize::try_from(stage.count(held).await).unwrap();
        live(stage.sandbox.platform(), TokenKind::Refresh) == held
    })
    .await;
}

/// No row is left that could open the account, and no token of it is live.
async fn nothing_opens_what_was_disconnected(stage: &Stage, cell: &str) {
    let left = "select (select count(*) from keyholder.credentials) + (select count(*) from keyholder.refreshes) \
         + (select count(*) from keyholder.jobs)";
    assert_eq!(stage.count(left).await, 0, "{cell}");
    let platform = stage.sandbox.platform();
    assert_eq!(live(platform, TokenKind::Access) + live(platform, TokenKind::Refresh), 0, "{cell}");
}
