"""The PyPI package openfga-sdk against a server: every call of its synchronous client, the main ones of its other, and refusals.

API_URL, API_TOKEN, OTHER_TOKEN (of another workspace), CA_FILE and MODEL (a file) come from the environment. Each step that is over is a
line on standard output; a step that fails ends the process.
"""

import asyncio
import json
import os
import re

import openfga_sdk
from openfga_sdk.client.configuration import ClientConfiguration
from openfga_sdk.client.models import (
    ClientAssertion,
    ClientBatchCheckItem,
    ClientBatchCheckRequest,
    ClientCheckRequest,
    ClientExpandRequest,
    ClientListObjectsRequest,
    ClientListRelationsRequest,
    ClientReadChangesRequest,
    ClientTuple,
    ClientWriteRequest,
)
from openfga_sdk.client.models.list_users_request import ClientListUsersRequest
from openfga_sdk.client.models.write_conflict_opts import (
    ClientWriteRequestOnDuplicateWrites,
    ClientWriteRequestOnMissingDeletes,
    ConflictOptions,
)
from openfga_sdk.client.models.write_transaction_opts import WriteTransactionOpts
from openfga_sdk.configuration import RetryParams
from openfga_sdk.credentials import CredentialConfiguration, Credentials
from openfga_sdk.exceptions import (
    NotFoundException,
    UnauthorizedException,
    ValidationException,
)
from openfga_sdk.models import (
    CreateStoreRequest,
    FgaObject,
    ReadRequestTupleKey,
    RelationshipCondition,
    UserTypeFilter,
    WriteAuthorizationModelRequest,
)
from openfga_sdk.sync import OpenFgaClient

MINE, OTHER = os.environ["API_TOKEN"], os.environ["OTHER_TOKEN"]
ULID = re.compile(r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")
UNKNOWN = "01H0H015178Y2V4CX10C2KGHF4"
with open(os.environ["MODEL"], encoding="utf-8") as file:
    MODEL = json.load(file)


def configuration(token, **more):
    return ClientConfiguration(
        api_url=os.environ["API_URL"],
        credentials=Credentials(
            method="api_token", configuration=CredentialConfiguration(api_token=token)
        ),
        retry_params=RetryParams(max_retry=0),
        ssl_ca_cert=os.environ["CA_FILE"],
        **more,
    )


def client(token, **more):
    return OpenFgaClient(configuration(token, **more))


def refused(call, kind, code=None):
    try:
        call()
    except kind as error:
        assert code is None or error.code == code, (error.code, error)
        return error
    raise AssertionError("it was not refused")


def over(step):
    print(step, flush=True)


def document(object_id):
    return FgaObject(type="document", id=object_id)


def stores():
    root = client(MINE)
    store_id = root.create_store(CreateStoreRequest(name="python")).id
    second = root.create_store(CreateStoreRequest(name="python too")).id
    assert ULID.match(store_id)
    fga = client(MINE, store_id=store_id)
    assert fga.get_store().name == "python"
    assert fga.get_store().created_at is not None
    seen, token = [], None
    while True:
        options = {"page_size": 1}
        if token:
            options["continuation_token"] = token
        page = root.list_stores(options)
        seen += [store.id for store in page.stores]
        token = page.continuation_token
        if not token:
            break
    assert {store_id, second} <= set(seen) and len(set(seen)) == len(seen)
    assert [store.id for store in root.list_stores({"name": "python too"}).stores] == [second]
    client(MINE, store_id=second).delete_store()
    over("stores")
    return store_id, fga


def models(store_id, fga):
    asked = ClientCheckRequest(user="user:anne", relation="viewer", object="document:1")
    refused(lambda: fga.check(asked), ValidationException, "latest_authorization_model_not_found")
    wanted = WriteAuthorizationModelRequest(**MODEL)
    first = fga.write_authorization_model(wanted).authorization_model_id
    model_id = fga.write_authorization_model(wanted).authorization_model_id
    assert ULID.match(model_id)
    read = fga.read_authorization_model({"authorization_model_id": first}).authorization_model
    assert read.id == first and read.schema_version == "1.1"
    assert {kind.type for kind in read.type_definitions} == {
        kind["type"] for kind in MODEL["type_definitions"]
    }
    assert set(read.conditions) == {"small"}
    assert fga.read_latest_authorization_model().authorization_model.id == model_id
    page = fga.read_authorization_models({"page_size": 1})
    assert [model.id for model in page.authorization_models] == [model_id]
    page = fga.read_authorization_models(
        {"page_size": 1, "continuation_token": page.continuation_token}
    )
    assert [model.id for model in page.authorization_models] == [first]
    over("models")
    return client(MINE, store_id=store_id, authorization_model_id=model_id), model_id


def write(fga):
    small = RelationshipCondition(name="small", context={"size": 3})
    unsaid = RelationshipCondition(name="small")
    fga.write(
        ClientWriteRequest(
            writes=[
                ClientTuple(user="user:anne", relation="editor", object="document:1"),
                ClientTuple(user="user:bea", relation="editor", object="document:1", condition=unsaid),
                ClientTuple(user="user:cid", relation="editor", object="document:1", condition=small),
                ClientTuple(user="folder:plans", relation="parent", object="document:2"),
                ClientTuple(user="group:staff#member", relation="viewer", object="folder:plans"),
                ClientTuple(user="user:dan", relation="member", object="group:staff"),
            ]
        )
    )
    gone = [ClientTuple(user="user:fay", relation="viewer", object="document:1")]
    fga.write_tuples(gone)
    fga.delete_tuples(gone)
    again = ClientWriteRequest(
        writes=[ClientTuple(user="user:anne", relation="editor", object="document:1")]
    )
    refused(lambda: fga.write(again), ValidationException, "write_failed_due_to_invalid_input")
    ignored = ConflictOptions(on_duplicate_writes=ClientWriteRequestOnDuplicateWrites.IGNORE)
    fga.write(again, {"conflict": ignored})
    missing = ClientWriteRequest(deletes=gone)
    refused(lambda: fga.write(missing), ValidationException, "write_failed_due_to_invalid_input")
    ignored = ConflictOptions(on_missing_deletes=ClientWriteRequestOnMissingDeletes.IGNORE)
    fga.write(missing, {"conflict": ignored})
    parts = ClientWriteRequest(
        writes=[
            ClientTuple(user="user:hal", relation="viewer", object="document:1"),
            ClientTuple(user="user:hal", relation="nothing", object="document:1"),
        ]
    )
    refused(lambda: fga.write(parts), ValidationException, "validation_error")
    one_by_one = {"transaction": WriteTransactionOpts(disabled=True, max_per_chunk=1)}
    assert [part.success for part in fga.write(parts, one_by_one).writes] == [True, False]
    over("write")


def read(fga):
    tuples, token = [], None
    while True:
        options = {"page_size": 4}
        if token:
            options["continuation_token"] = token
        page = fga.read(ReadRequestTupleKey(), options)
        assert len(page.tuples) <= 4
        tuples += page.tuples
        token = page.continuation_token
        if not token:
            break
    assert len(tuples) == 7, tuples
    cid = fga.read(ReadRequestTupleKey(user="user:cid", object="document:1")).tuples
    assert [one.key.condition.context for one in cid] == [{"size": 3}]
    over("read")


def changes(fga):
    found, token = [], None
    while True:
        options = {"page_size": 3}
        if token:
            options["continuation_token"] = token
        page = fga.read_changes(ClientReadChangesRequest(type="document"), options)
        if not page.changes:
            break
        found += page.changes
        token = page.continuation_token
    assert len(found) == 7, found
    fay = [str(change.operation) for change in found if change.tuple_key.user == "user:fay"]
    assert [said.rsplit("_", 1)[-1] for said in fay] == ["WRITE", "DELETE"], fay
    later = ClientReadChangesRequest(type="document", start_time="2999-01-01T00:00:00Z")
    assert fga.read_changes(later).changes == []
    over("changes")


def check(fga):
    def ask(user, object_id, **more):
        request = ClientCheckRequest(user=user, relation="viewer", object=f"document:{object_id}", **more)
        return fga.check(request).allowed

    assert ask("user:anne", 1) is True
    assert ask("user:anne", 2) is False
    assert ask("user:dan", 2) is True
    assert ask("user:bea", 1, context={"size": 3}) is True
    assert ask("user:bea", 1, context={"size": 30}) is False
    refused(lambda: ask("user:bea", 1), ValidationException, "validation_error")
    brought = [ClientTuple(user="user:ida", relation="member", object="group:staff")]
    assert ask("user:ida", 2, contextual_tuples=brought) is True
    assert ask("user:ida", 2) is False
    over("check")


def batch_check(fga):
    brought = [ClientTuple(user="user:ida", relation="member", object="group:staff")]
    checks = [
        ClientBatchCheckItem(user="user:anne", relation="viewer", object="document:1", correlation_id="one"),
        ClientBatchCheckItem(user="user:anne", relation="viewer", object="document:2", correlation_id="two"),
        ClientBatchCheckItem(user="user:bea", relation="viewer", object="document:1", correlation_id="three"),
        ClientBatchCheckItem(
            user="user:ida",
            relation="viewer",
            object="document:2",
            contextual_tuples=brought,
            correlation_id="four",
        ),
    ]
    answer = fga.batch_check(ClientBatchCheckRequest(checks=checks))
    by_id = {one.correlation_id: one for one in answer.result}
    assert [by_id[name].allowed for name in ("one", "two", "four")] == [True, False, True]
    assert by_id["three"].error is not None
    single = fga.client_batch_check(
        [ClientCheckRequest(user="user:dan", relation="viewer", object=f"document:{n}") for n in range(5)]
    )
    assert [one.allowed for one in single] == [False, False, True, False, False]
    over("batch check")


def lists(fga):
    tree = fga.expand(ClientExpandRequest(relation="viewer", object="document:2")).tree
    assert tree.root.name == "document:2#viewer"
    assert len(tree.root.difference.base.union.nodes) == 3
    over("expand")

    asked = ClientListObjectsRequest(user="user:dan", relation="viewer", type="document")
    assert fga.list_objects(asked).objects == ["document:2"]
    wrong = ClientListObjectsRequest(user="user:dan", relation="viewer", type="nothing")
    refused(lambda: fga.list_objects(wrong), ValidationException, "type_not_found")
    over("list objects")

    assert [one.object for one in fga.streamed_list_objects(asked)] == ["document:2"]
    over("streamed list objects")

    relations = ClientListRelationsRequest(
        user="user:anne", object="document:1", relations=["viewer", "editor", "blocked"]
    )
    assert sorted(fga.list_relations(relations)) == ["editor", "viewer"]
    over("list relations")

    users = fga.list_users(
        ClientListUsersRequest(
            object=document("1"),
            relation="viewer",
            user_filters=[UserTypeFilter(type="user")],
            context={"size": 3},
        )
    )
    assert sorted(one.object.id for one in users.users) == ["anne", "bea", "cid", "hal"]
    groups = fga.list_users(
        ClientListUsersRequest(
            object=document("2"),
            relation="viewer",
            user_filters=[UserTypeFilter(type="group", relation="member")],
        )
    )
    assert [(one.userset.type, one.userset.id, one.userset.relation) for one in groups.users] == [
        ("group", "staff", "member")
    ]
    over("list users")


def assertions(fga, model_id):
    fga.write_assertions(
        [
            ClientAssertion(user="user:anne", relation="viewer", object="document:1", expectation=True),
            ClientAssertion(user="user:anne", relation="viewer", object="document:2", expectation=False),
        ]
    )
    kept = fga.read_assertions()
    assert kept.authorization_model_id == model_id
    said = [(one.tuple_key.object, one.expectation) for one in kept.assertions]
    assert said == [("document:1", True), ("document:2", False)], said
    over("assertions")


def refusals(store_id, model_id):
    asked = ClientCheckRequest(user="user:anne", relation="viewer", object="document:1")
    fga = client(MINE, store_id=store_id, authorization_model_id=model_id)
    wrong = ClientCheckRequest(user="user:anne", relation="nothing", object="document:1")
    refused(lambda: fga.check(wrong), ValidationException, "validation_error")
    other_model = {"authorization_model_id": UNKNOWN}
    refused(lambda: fga.check(asked, other_model), ValidationException, "authorization_model_not_found")
    lost = client(MINE, store_id=UNKNOWN)
    refused(lost.get_store, NotFoundException, "store_id_not_found")
    strange = client("kh_local_nothing", store_id=store_id)
    error = refused(strange.get_store, UnauthorizedException)
    assert error.status == 401
    # Another workspace's key does not learn that the store is there.
    other = client(OTHER, store_id=store_id, authorization_model_id=model_id)
    refused(other.get_store, NotFoundException, "store_id_not_found")
    refused(lambda: other.check(asked), NotFoundException, "store_id_not_found")
    assert client(OTHER).list_stores().stores == []
    over("refusals")


async def without_waiting(store_id, model_id):
    mine = configuration(MINE, store_id=store_id, authorization_model_id=model_id)
    async with openfga_sdk.OpenFgaClient(mine) as fga:
        request = ClientCheckRequest(user="user:dan", relation="viewer", object="document:2")
        answers = await asyncio.gather(*(fga.check(request) for _ in range(20)))
        assert all(answer.allowed for answer in answers)
        asked = ClientListObjectsRequest(user="user:dan", relation="viewer", type="document")
        streamed = [one.object async for one in fga.streamed_list_objects(asked)]
        assert streamed == ["document:2"], streamed
        try:
            await fga.check(ClientCheckRequest(user="user:dan", relation="nothing", object="document:2"))
        except ValidationException as error:
            assert error.code == "validation_error", error
        else:
            raise AssertionError("it was not refused")
    over("asynchronous")


def main():
    store_id, fga = stores()
    fga, model_id = models(store_id, fga)
    write(fga)
    read(fga)
    changes(fga)
    check(fga)
    batch_check(fga)
    lists(fga)
    assertions(fga, model_id)
    refusals(store_id, model_id)
    asyncio.run(without_waiting(store_id, model_id))
    fga.delete_store()
    refused(fga.get_store, NotFoundException, "store_id_not_found")
    over("delete")


main()
