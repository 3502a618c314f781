// The npm package @openfga/sdk against a server: every call that it has, and what it makes of refusals.
//
// API_URL, API_TOKEN, OTHER_TOKEN (of another workspace) and MODEL (a file) come from the environment. Each step that is over is a line
// on standard output; a step that fails ends the process.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

// The package is installed beside the build, and not beside this file.
const require = createRequire(process.env.MODULES + "/");
const {
  ClientWriteRequestOnDuplicateWrites,
  ClientWriteRequestOnMissingDeletes,
  ConsistencyPreference,
  CredentialsMethod,
  FgaApiAuthenticationError,
  FgaApiNotFoundError,
  FgaApiValidationError,
  OpenFgaClient,
} = require("@openfga/sdk");

const client = (token, more = {}) =>
  new OpenFgaClient({
    apiUrl: process.env.API_URL,
    credentials: { method: CredentialsMethod.ApiToken, config: { token } },
    retryParams: { maxRetry: 0 },
    ...more,
  });
const mine = process.env.API_TOKEN;
const model = JSON.parse(await readFile(process.env.MODEL, "utf8"));
const ULID = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/;
const tuple = (user, relation, object, condition) => ({ user, relation, object, ...(condition ? { condition } : {}) });
const sorted = (list) => [...list].sort();

/** What a call that must fail failed with. */
async function refusal(call, kind, code) {
  const error = await call().then(
    () => assert.fail("it was not refused"),
    (error) => error,
  );
  assert.ok(error instanceof kind, `${error.name}: ${error.message} ${JSON.stringify(error.responseData)}`);
  if (code) assert.equal(error.apiErrorCode, code, JSON.stringify(error.responseData));
  return error;
}

let step = "";
const steps = [];
const at = (name) => {
  if (step) console.log(step);
  step = name;
  steps.push(name);
};
process.on("uncaughtException", (error) => {
  console.error(`in the step "${step}":`, error);
  process.exit(1);
});

at("stores");
const root = client(mine);
const { id: storeId } = await root.createStore({ name: "javascript" });
assert.match(storeId, ULID);
const second = await root.createStore({ name: "javascript too" });
const fga = client(mine, { storeId });
const store = await fga.getStore();
assert.equal(store.name, "javascript");
assert.ok(!Number.isNaN(Date.parse(store.created_at)) && !Number.isNaN(Date.parse(store.updated_at)));
const seen = [];
let token;
do {
  const page = await root.listStores({ pageSize: 1, continuationToken: token });
  assert.ok(page.stores.length <= 1);
  seen.push(...page.stores.map((one) => one.id));
  token = page.continuation_token;
} while (token);
assert.ok(seen.includes(storeId) && seen.includes(second.id));
assert.equal(new Set(seen).size, seen.length);
const named = await root.listStores({ name: "javascript too" });
assert.deepEqual(named.stores.map((one) => one.id), [second.id]);

at("models");
await refusal(() => fga.check(tuple("user:anne", "viewer", "document:1")), FgaApiValidationError, "latest_authorization_model_not_found");
const { authorization_model_id: first } = await fga.writeAuthorizationModel(model);
const { authorization_model_id: modelId } = await fga.writeAuthorizationModel(model);
assert.match(modelId, ULID);
const read = await fga.readAuthorizationModel({ authorizationModelId: first });
assert.equal(read.authorization_model.id, first);
assert.equal(read.authorization_model.schema_version, "1.1");
assert.deepEqual(
  sorted(read.authorization_model.type_definitions.map((kind) => kind.type)),
  sorted(model.type_definitions.map((kind) => kind.type)),
);
assert.equal((await fga.readLatestAuthorizationModel()).authorization_model.id, modelId);
const models = await fga.readAuthorizationModels({ pageSize: 1 });
assert.deepEqual(models.authorization_models.map((one) => one.id), [modelId]);
const older = await fga.readAuthorizationModels({ pageSize: 1, continuationToken: models.continuation_token });
assert.deepEqual(older.authorization_models.map((one) => one.id), [first]);
await refusal(
  () => fga.writeAuthorizationModel({ schema_version: "1.1", type_definitions: [{ type: "a", relations: { b: { computedUserset: { relation: "c" } } } }] }),
  FgaApiValidationError,
);
const fixed = client(mine, { storeId, authorizationModelId: modelId });
await fixed.checkValidApiConnection();

at("write");
const small = { name: "small", context: { size: 3 } };
await fixed.write({
  writes: [
    tuple("user:anne", "editor", "document:1"),
    tuple("user:bea", "editor", "document:1", { name: "small" }),
    tuple("user:cid", "editor", "document:1", small),
    tuple("folder:plans", "parent", "document:2"),
    tuple("group:staff#member", "viewer", "folder:plans"),
    tuple("user:dan", "member", "group:staff"),
    tuple("user:eve", "member", "group:staff"),
    tuple("user:eve", "blocked", "document:2"),
    tuple("user:*", "viewer", "folder:open"),
    tuple("folder:open", "parent", "document:3"),
  ],
});
await fixed.writeTuples([tuple("user:fay", "viewer", "document:1")]);
await fixed.deleteTuples([tuple("user:fay", "viewer", "document:1")]);
const again = { writes: [tuple("user:anne", "editor", "document:1")] };
await refusal(() => fixed.write(again), FgaApiValidationError, "write_failed_due_to_invalid_input");
await fixed.write(again, { conflict: { onDuplicateWrites: ClientWriteRequestOnDuplicateWrites.Ignore } });
const missing = { deletes: [tuple("user:nobody", "editor", "document:1")] };
await refusal(() => fixed.write(missing), FgaApiValidationError, "write_failed_due_to_invalid_input");
await fixed.write(missing, { conflict: { onMissingDeletes: ClientWriteRequestOnMissingDeletes.Ignore } });
// All or nothing: the good tuple is not there afterwards.
await refusal(
  () => fixed.write({ writes: [tuple("user:gus", "viewer", "document:1"), tuple("user:gus", "nothing", "document:1")] }),
  FgaApiValidationError,
  "validation_error",
);
assert.equal((await fixed.read(tuple("user:gus", "viewer", "document:1"))).tuples.length, 0);
const parts = await fixed.write(
  { writes: [tuple("user:hal", "viewer", "document:1"), tuple("user:hal", "nothing", "document:1")] },
  { transaction: { disable: true } },
);
assert.deepEqual(sorted(parts.writes.map((one) => one.status)), ["failure", "success"]);

at("read");
const tuples = [];
token = undefined;
do {
  const page = await fixed.read({}, { pageSize: 4, continuationToken: token });
  assert.ok(page.tuples.length <= 4);
  tuples.push(...page.tuples);
  token = page.continuation_token;
} while (token);
assert.equal(tuples.length, 11);
assert.ok(tuples.every((one) => !Number.isNaN(Date.parse(one.timestamp))));
const cid = await fixed.read({ user: "user:cid", object: "document:1" });
assert.deepEqual(cid.tuples.map((one) => one.key.condition), [small]);
assert.equal((await fixed.read({ object: "document:1", relation: "editor" })).tuples.length, 3);

at("changes");
const changes = [];
token = undefined;
for (;;) {
  const page = await fixed.readChanges({ type: "document" }, { pageSize: 3, continuationToken: token });
  if (page.changes.length === 0) break;
  changes.push(...page.changes);
  token = page.continuation_token;
}
assert.equal(changes.length, 9);
assert.ok(changes.every((one) => one.tuple_key.object.startsWith("document:")));
assert.deepEqual(
  changes.filter((one) => one.tuple_key.user === "user:fay").map((one) => one.operation),
  ["TUPLE_OPERATION_WRITE", "TUPLE_OPERATION_DELETE"],
);

at("check");
const check = async (user, object, more = {}) =>
  (await fixed.check({ ...tuple(user, "viewer", object), ...more })).allowed;
assert.equal(await check("user:anne", "document:1"), true);
assert.equal(await check("user:anne", "document:2"), false);
assert.equal(await check("user:dan", "document:2"), true);
assert.equal(await check("user:eve", "document:2"), false);
assert.equal(await check("user:nobody", "document:3"), true);
assert.equal(await check("user:bea", "document:1", { context: { size: 3 } }), true);
assert.equal(await check("user:bea", "document:1", { context: { size: 30 } }), false);
await refusal(() => check("user:bea", "document:1"), FgaApiValidationError, "validation_error");
assert.equal(
  await check("user:ida", "document:2", { contextualTuples: [tuple("user:ida", "member", "group:staff")] }),
  true,
);
assert.equal(await check("user:ida", "document:2"), false);
const consistent = await fixed.check(tuple("user:anne", "viewer", "document:1"), {
  consistency: ConsistencyPreference.HigherConsistency,
  authorizationModelId: first,
});
assert.equal(consistent.allowed, true);

at("batch check");
const batch = await fixed.batchCheck({
  checks: [
    { ...tuple("user:anne", "viewer", "document:1"), correlationId: "one" },
    { ...tuple("user:eve", "viewer", "document:2"), correlationId: "two" },
    { ...tuple("user:bea", "viewer", "document:1"), correlationId: "three" },
    {
      ...tuple("user:ida", "viewer", "document:2"),
      contextualTuples: { tuple_keys: [tuple("user:ida", "member", "group:staff")] },
      correlationId: "four",
    },
  ],
});
const byId = Object.fromEntries(batch.result.map((one) => [one.correlationId, one]));
assert.deepEqual(["one", "two", "four"].map((id) => byId[id].allowed), [true, false, true]);
assert.equal(byId.three.error.input_error, "validation_error");
const many = Array.from({ length: 60 }, (_, n) => tuple("user:dan", "viewer", `document:${n}`));
const answers = await fixed.batchCheck({ checks: many });
assert.deepEqual(answers.result.filter((one) => one.allowed).map((one) => one.request.object).sort(), ["document:2", "document:3"]);
const single = await fixed.clientBatchCheck([tuple("user:dan", "viewer", "document:2"), tuple("user:dan", "nothing", "document:2")]);
const allowed = Object.fromEntries(single.result.map((one) => [one._request.relation, one.allowed]));
assert.deepEqual(allowed, { viewer: true, nothing: undefined });

at("expand");
const { tree } = await fixed.expand({ relation: "viewer", object: "document:2" });
assert.equal(tree.root.name, "document:2#viewer");
assert.equal(tree.root.difference.base.union.nodes.length, 3);
const leaf = tree.root.difference.base.union.nodes.find((node) => node.leaf.tupleToUserset);
assert.deepEqual(leaf.leaf.tupleToUserset.computed, [{ userset: "folder:plans#viewer" }]);

at("list objects");
const asked = { user: "user:dan", relation: "viewer", type: "document" };
assert.deepEqual(sorted((await fixed.listObjects(asked)).objects), ["document:2", "document:3"]);
const more = await fixed.listObjects({ ...asked, contextualTuples: [tuple("user:dan", "viewer", "document:9")] });
assert.deepEqual(sorted(more.objects), ["document:2", "document:3", "document:9"]);
await refusal(() => fixed.listObjects({ ...asked, type: "nothing" }), FgaApiValidationError, "type_not_found");
await refusal(() => fixed.listObjects({ ...asked, relation: "nothing" }), FgaApiValidationError, "relation_not_found");

at("streamed list objects");
const streamed = [];
for await (const one of fixed.streamedListObjects(asked)) streamed.push(one.object);
assert.deepEqual(sorted(streamed), ["document:2", "document:3"]);

at("list relations");
const relations = await fixed.listRelations({ user: "user:anne", object: "document:1", relations: ["viewer", "editor", "blocked"] });
assert.deepEqual(sorted(relations.relations), ["editor", "viewer"]);

at("list users");
const document = (id) => ({ type: "document", id });
const users = await fixed.listUsers({
  object: document("1"),
  relation: "viewer",
  user_filters: [{ type: "user" }],
  context: { size: 3 },
});
assert.deepEqual(sorted(users.users.map((one) => one.object.id)), ["anne", "bea", "cid", "hal"]);
const everybody = await fixed.listUsers({ object: document("3"), relation: "viewer", user_filters: [{ type: "user" }] });
assert.deepEqual(everybody.users, [{ wildcard: { type: "user" } }]);
const groups = await fixed.listUsers({
  object: document("2"),
  relation: "viewer",
  user_filters: [{ type: "group", relation: "member" }],
});
assert.deepEqual(groups.users, [{ userset: { type: "group", id: "staff", relation: "member" } }]);

at("assertions");
const assertions = [
  { ...tuple("user:anne", "viewer", "document:1"), expectation: true },
  { ...tuple("user:eve", "viewer", "document:2"), expectation: false },
];
await fixed.writeAssertions(assertions);
const kept = await fixed.readAssertions();
assert.equal(kept.authorization_model_id, modelId);
assert.deepEqual(
  kept.assertions.map(({ tuple_key: { user, relation, object }, expectation }) => ({ user, relation, object, expectation })),
  assertions,
);

at("refusals");
await refusal(() => fixed.check(tuple("user:anne", "nothing", "document:1")), FgaApiValidationError, "validation_error");
await refusal(() => fixed.check(tuple("nonsense", "viewer", "document:1")), FgaApiValidationError, "validation_error");
const unknown = "01H0H015178Y2V4CX10C2KGHF4";
await refusal(
  () => fixed.check(tuple("user:anne", "viewer", "document:1"), { authorizationModelId: unknown }),
  FgaApiValidationError,
  "authorization_model_not_found",
);
await refusal(() => client(mine, { storeId: unknown }).getStore(), FgaApiNotFoundError, "store_id_not_found");
const strange = await refusal(() => client("kh_local_nothing", { storeId }).getStore(), FgaApiAuthenticationError);
assert.equal(strange.statusCode, 401);
// Another workspace's key does not learn that the store is there.
const other = client(process.env.OTHER_TOKEN, { storeId, authorizationModelId: modelId });
await refusal(() => other.getStore(), FgaApiNotFoundError, "store_id_not_found");
await refusal(() => other.check(tuple("user:anne", "viewer", "document:1")), FgaApiNotFoundError, "store_id_not_found");
await refusal(() => other.write({ writes: [tuple("user:anne", "viewer", "document:9")] }), FgaApiNotFoundError, "store_id_not_found");
await other.deleteStore().catch((error) => assert.ok(error instanceof FgaApiNotFoundError, error.message));
assert.equal((await fixed.getStore()).id, storeId);
assert.deepEqual((await client(process.env.OTHER_TOKEN).listStores()).stores, []);

at("delete");
await fixed.deleteStore();
await refusal(() => fixed.getStore(), FgaApiNotFoundError, "store_id_not_found");
await refusal(() => fixed.check(tuple("user:anne", "viewer", "document:1")), FgaApiNotFoundError, "store_id_not_found");
await client(mine, { storeId: second.id }).deleteStore();
assert.deepEqual((await root.listStores({ name: "javascript" })).stores, []);

console.log(step);
