//! A node whose keyring is behind, or cannot be read: what it cannot open is not damaged, and what it wraps counts.

use domain::id::{Id, WorkspaceId};
use seal::DataKey;

use super::*;

/// Only this node gets the lease of a rotation from now on.
async fn leave_rotations_to(scene: &Scene, node: &Instance) {
    let mut owner = scene.app.owner().await;
    owner_sql(&mut owner).await;
    let others = format!(
        "create function theirs() returns trigger language plpgsql as $$ begin \
           if new.fence > old.fence and new.node_id <> '{}' then return null; end if; return new; end $$; \
         create trigger theirs before update on rotations for each row execute function theirs()",
        node.app().node.uuid()
    );
    sqlx::raw_sql(AssertSqlSafe(others)).execute(&mut owner).await.unwrap();
}

/// Waits until the node has taken the lease again, twice, and has given it back; nothing came of that.
async fn it_gets_nowhere(scene: &Scene, keys: i64) {
    let fence =
        async || scene.count("generate_series(1, (select fence from rotations where kind = 'data_keys'))").await;
    let before = fence().await;
    let gets_on =
        async || scene.count("rotations where kind = 'data_keys' and (phase <> 'renew' or unopened > 0)").await > 0;
    eventually("it has tried twice", async || fence().await >= before + 2 || gets_on().await).await;
    let standing = scene.standing(Kind::DataKeys).await;
    assert_eq!((standing.state.as_str(), standing.phase.as_str()), ("running", "renew"), "{standing:?}");
    assert_eq!(standing.done, store::rotation::Done::default(), "nothing is said to be damaged");
    assert_eq!(scene.count("rotations where kind = 'data_keys' and workspace is null").await, 1, "none is passed over");
    assert_eq!(
        (scene.count("data_keys").await, scene.count("data_keys where idle_since = 'infinity'").await),
        (keys, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_at_a_node_whose_keyring_is_behind_or_unreadable_calls_nothing_damaged() {
    let scene = Scene::set().await;
    let entrusted = scene.app.entrust(&["post.create"], json!([])).await;
    post(&entrusted.agent, &entrusted, "before").await;
    let copy = scene.folder.path().join("copy.json");
    std::fs::copy(scene.path(), &copy).unwrap();
    let behind = scene.app.second_node_with(|options| options.keyring = copy.clone()).await;
    let first = open(&copy);
    // As when that node slept for so long that it did not count as alive: nobody waited for it.
    let second = scene.keyring.new_epoch(&scene.clock).unwrap();
    scene.keyring.activate(second).unwrap();
    eventually("the other node wraps under it", async || scene.count("nodes where wrapping = 2").await == 1).await;
    scene.rewrap().await;

    // The key that seals is under an epoch that the node does not know.
    leave_rotations_to(&scene, &behind).await;
    scene.order(Kind::DataKeys, Order::Start).await;
    it_gets_nowhere(&scene, 1).await;
    // The key that seals opens, and the one before it is under such an epoch.
    let key = DataKey::generate(WorkspaceId::from_uuid(scene.app.workspace_uuid()), &scene.clock);
    let wrapped = key.wrap(&first).unwrap();
    let mut owner = scene.app.owner().await;
    owner_sql(&mut owner).await;
    let newest = "insert into data_keys (workspace_id, id, epoch, wrapped, generation, created_at) values ($1, $2, 1, $3, 1, now())";
    let newest = sqlx::query(newest).bind(scene.app.workspace_uuid()).bind(key.id().uuid()).bind(wrapped.bytes);
    newest.execute(&mut owner).await.unwrap();
    scene.sql("update data_keys set idle_since = clock_timestamp() where generation = 0").await;
    it_gets_nowhere(&scene, 2).await;
    // It cannot be read at all.
    std::fs::write(&copy, "{").unwrap();
    it_gets_nowhere(&scene, 2).await;

    // What that node could not do, the other does.
    scene.sql("drop trigger theirs on rotations").await;
    scene.reaches(Kind::DataKeys, "retire").await;
    assert_eq!((scene.standing(Kind::DataKeys).await.done.unopened, scene.under_old_keys().await), (0, 0));
    post(&entrusted.agent, &entrusted, "after").await;
    behind.stop().await;
    scene.app.stop().await;
}

/// What it wraps under an epoch that was retired while it slept the database refuses: it reads its keyring, and wraps once more.
#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_is_made_by_a_node_that_slept_while_its_epoch_was_retired() {
    let scene = Scene::set().await;
    let operator = Principal::operator("test", scene.clock.now());
    // It reads the keyring every two seconds by itself, and may happen to do so in between: but not each time.
    for round in 0..3 {
        let retired = scene.keyring.current();
        let next = scene.keyring.new_epoch(&scene.clock).unwrap();
        scene.sql(&format!("update epochs set retired_at = clock_timestamp() where epoch = {retired}")).await;
        scene.keyring.activate(next).unwrap();
        let made = service::workspace::create(scene.app.instance.app(), &operator, "Late").await;
        assert!(made.is_ok(), "{round}: {made:?}");
        assert_eq!(scene.count(&format!("data_keys where epoch = {next}")).await, 1);
    }
    scene.app.stop().await;
}
