-- Topics: an append-only log of messages per topic, consumer groups whose deliveries are ordinary jobs, the tasks that
-- deliver history (a new group, a replay), grants, and the audit log with its chain.

CREATE SEQUENCE tandem.message_position AS bigint CACHE 1;

CREATE TABLE tandem.topic (
    id            integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text COLLATE "C" NOT NULL UNIQUE CONSTRAINT topic_name CHECK (name ~ '^[a-z][a-z0-9_.-]{0,62}$' AND name <> 'dlq'),
    version       integer     NOT NULL DEFAULT 0,
    retention     interval    NOT NULL DEFAULT '7 days' CONSTRAINT topic_retention CHECK (retention > '0'),
    dedup_window  interval    NOT NULL DEFAULT '1 day' CONSTRAINT topic_dedup_window CHECK (dedup_window > '0'),
    drop_unread   boolean     NOT NULL DEFAULT false,
    encrypted     boolean     NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by    text
);
COMMENT ON TABLE tandem.topic IS 'Topics and their rules; version counts the groups that were ever made, see message.version';
COMMENT ON COLUMN tandem.topic.drop_unread IS 'retention drops messages that a group has not handled yet, counted in topic_loss';

CREATE TABLE tandem.topic_group (
    id            integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic_id      integer     NOT NULL REFERENCES tandem.topic ON DELETE CASCADE,
    name          text COLLATE "C" NOT NULL CONSTRAINT topic_group_name CHECK (name ~ '^[a-z][a-z0-9_.-]{0,62}$'),
    queue         text COLLATE "C" NOT NULL UNIQUE,
    version       integer     NOT NULL,
    start_position bigint     NOT NULL,
    max_attempts  smallint    NOT NULL DEFAULT 5 CONSTRAINT topic_group_attempts CHECK (max_attempts BETWEEN 1 AND 100),
    retry_delay_ms integer    NOT NULL DEFAULT 2000 CONSTRAINT topic_group_delay CHECK (retry_delay_ms BETWEEN 0 AND 86400000),
    backoff       text        NOT NULL DEFAULT 'exponential' CONSTRAINT topic_group_backoff CHECK (backoff IN ('exponential', 'linear')),
    ordered       boolean     NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by    text,
    UNIQUE (topic_id, name)
);
COMMENT ON TABLE tandem.topic_group IS 'Consumer groups; messages published at this version or later were delivered by their publisher';
COMMENT ON COLUMN tandem.topic_group.queue IS 'the queue, and the kind, of the group''s deliveries: ordinary jobs';

CREATE TABLE tandem.message (
    "position"    bigint      NOT NULL,
    published_at  timestamptz NOT NULL,
    xid           bigint      NOT NULL,
    message_id    uuid        NOT NULL,
    topic_id      integer     NOT NULL,
    version       integer     NOT NULL,
    schema_version smallint   NOT NULL DEFAULT 1,
    key           text COLLATE "C" CONSTRAINT message_key CHECK (length(key) BETWEEN 1 AND 255),
    payload       jsonb       NOT NULL,
    headers       jsonb,
    PRIMARY KEY (topic_id, "position")
) PARTITION BY LIST (topic_id);
CREATE INDEX message_xid ON tandem.message USING brin (xid) WITH (pages_per_range = 16, autosummarize = on);
CREATE INDEX message_published_at ON tandem.message USING brin (published_at) WITH (pages_per_range = 16, autosummarize = on);
COMMENT ON TABLE tandem.message IS 'The log: append-only, partitioned by topic and then by ranges of positions, dropped by retention';
COMMENT ON COLUMN tandem.message.version IS 'the topic''s version as its publisher saw it: which groups it delivered to';
COMMENT ON COLUMN tandem.message.xid IS 'the publisher''s transaction (an xid8): tells which messages a snapshot has not seen';

CREATE TABLE tandem.message_dedup (
    topic_id      integer     NOT NULL REFERENCES tandem.topic ON DELETE CASCADE,
    id            text COLLATE "C" NOT NULL CONSTRAINT message_dedup_id CHECK (length(id) BETWEEN 1 AND 255),
    message_id    uuid        NOT NULL,
    "position"    bigint      NOT NULL,
    body_hash     bytea       NOT NULL,
    expires_at    timestamptz NOT NULL,
    PRIMARY KEY (topic_id, id)
);
CREATE INDEX message_dedup_expires ON tandem.message_dedup (expires_at);
COMMENT ON TABLE tandem.message_dedup IS 'Message ids and idempotency keys that publishers gave, for the topic''s window';

CREATE TABLE tandem.topic_fill (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    group_id      integer     NOT NULL REFERENCES tandem.topic_group ON DELETE CASCADE,
    reason        text        NOT NULL CONSTRAINT topic_fill_reason CHECK (reason IN ('start', 'replay', 'seek')),
    from_position bigint      NOT NULL,
    to_position   bigint      NOT NULL,
    cursor        bigint      NOT NULL,
    snapshot      pg_snapshot NOT NULL,
    history_done  boolean     NOT NULL DEFAULT false,
    boundary      xid8,
    delivered     bigint      NOT NULL DEFAULT 0,
    requested_at  timestamptz NOT NULL,
    requested_by  text,
    finished_at   timestamptz
);
CREATE INDEX topic_fill_open ON tandem.topic_fill (id) WHERE finished_at IS NULL;
COMMENT ON TABLE tandem.topic_fill IS 'Deliveries to be made from the log: the history of a new group, its late commits, replays';

CREATE TABLE tandem.topic_consumer (
    group_id      integer     NOT NULL REFERENCES tandem.topic_group ON DELETE CASCADE,
    name          text        NOT NULL,
    seen_at       timestamptz NOT NULL,
    PRIMARY KEY (group_id, name)
);
COMMENT ON TABLE tandem.topic_consumer IS 'Programs that consume over HTTP, seen at most every few seconds; for people';

CREATE TABLE tandem.topic_loss (
    topic_id      integer     NOT NULL REFERENCES tandem.topic ON DELETE CASCADE,
    group_id      integer     NOT NULL,
    at            timestamptz NOT NULL,
    messages      bigint      NOT NULL
);
COMMENT ON TABLE tandem.topic_loss IS 'Messages that retention dropped before a group had handled them (topic.drop_unread)';

CREATE TABLE tandem.topic_grant (
    principal     text COLLATE "C" NOT NULL CONSTRAINT topic_grant_principal CHECK (length(principal) BETWEEN 1 AND 200),
    operation     text        NOT NULL CONSTRAINT topic_grant_operation CHECK (operation IN ('publish', 'consume')),
    topic         text COLLATE "C" NOT NULL,
    granted_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    granted_by    text,
    PRIMARY KEY (principal, operation, topic)
);
COMMENT ON TABLE tandem.topic_grant IS 'What a principal of role System may publish to and consume from; topic ''*'' means every topic';

CREATE TABLE tandem.audit_entry (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            timestamptz NOT NULL,
    xid           xid8        NOT NULL,
    actor         text        NOT NULL,
    action        text        NOT NULL,
    topic         text,
    group_name    text,
    items         integer     NOT NULL DEFAULT 1,
    detail        jsonb       NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_entry_xid ON tandem.audit_entry (xid);
COMMENT ON TABLE tandem.audit_entry IS 'Append-only: who did what to which messages, one row for each batch';

CREATE TABLE tandem.audit_chain (
    seq           bigint      NOT NULL PRIMARY KEY,
    entry_id      bigint      NOT NULL UNIQUE,
    hash          bytea       NOT NULL
);
COMMENT ON TABLE tandem.audit_chain IS 'The sealed order of the entries: each hash covers the one before it';

CREATE TABLE tandem.audit_head (
    seq           bigint      NOT NULL PRIMARY KEY,
    hash          bytea       NOT NULL,
    xid_end       xid8        NOT NULL,
    sealed_at     timestamptz NOT NULL,
    key_id        text        NOT NULL,
    signature     bytea       NOT NULL
);
COMMENT ON TABLE tandem.audit_head IS 'The signed end of each sealed batch; the same lines lie in a file outside the database';

CREATE TABLE tandem.delivery_end (
    xid           xid8        NOT NULL,
    queue         text COLLATE "C" NOT NULL,
    action        text COLLATE "C" NOT NULL CONSTRAINT delivery_end_action CHECK (action IN ('ack', 'nack', 'dead', 'cancel', 'rescue')),
    worker        uuid,
    attempt       smallint    NOT NULL,
    started_at    timestamptz,
    ended_at      timestamptz NOT NULL,
    job_ids       bigint[]    NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX delivery_end_xid ON tandem.delivery_end (xid);
COMMENT ON TABLE tandem.delivery_end IS 'How tries of deliveries by workers ended, until the sweeper makes entries of the audit log of them';

-- Trigger function of append-only tables: rows are added and read, never changed and never removed.
CREATE OR REPLACE FUNCTION tandem.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is not allowed', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;

-- tandem.uuid7(at): a UUID of version 7 (RFC 9562) for this moment: ids made in time order sort in time order.
CREATE OR REPLACE FUNCTION tandem.uuid7(at timestamptz) RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
    PLACING substring(int8send(floor(extract(epoch FROM at) * 1000)::bigint) FROM 3) FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid;

-- tandem.topic_queue(topic, group): the queue, and the kind, of a group's deliveries. Long names are cut and made
-- unambiguous by a hash.
CREATE OR REPLACE FUNCTION tandem.topic_queue(topic text, name text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN length(topic) + length(name) <= 55 THEN 'topic.' || topic || '..' || name
            ELSE left('topic.' || topic || '..' || name, 50) || '.' || left(md5(topic || '..' || name), 12) END;

-- tandem.delivery(...): the payload of a delivery job. A message of up to 2 KiB travels inside, so that a consumer reads
-- nothing else; a larger one stays in the log only (a copy for each group would cost more than the lookup by position).
-- Without a search_path of its own, and by cases, so that the planner writes out one call where it stands.
CREATE OR REPLACE FUNCTION tandem.delivery(
    topic text, "position" bigint, message_id uuid, key text, schema_version smallint, published_at timestamptz,
    headers jsonb, payload jsonb
) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE
    WHEN pg_column_size(payload) > 2048 AND headers IS NULL THEN jsonb_build_object(
        'topic', topic, 'position', "position", 'message_id', message_id, 'key', key, 'schema_version', schema_version,
        'published_at', published_at)
    WHEN pg_column_size(payload) > 2048 THEN jsonb_build_object(
        'topic', topic, 'position', "position", 'message_id', message_id, 'key', key, 'schema_version', schema_version,
        'published_at', published_at, 'headers', headers)
    WHEN headers IS NULL THEN jsonb_build_object(
        'topic', topic, 'position', "position", 'message_id', message_id, 'key', key, 'schema_version', schema_version,
        'published_at', published_at, 'payload', payload)
    ELSE jsonb_build_object(
        'topic', topic, 'position', "position", 'message_id', message_id, 'key', key, 'schema_version', schema_version,
        'published_at', published_at, 'headers', headers, 'payload', payload)
END;

-- tandem.publish_target(topic, payloads): the topic that a publish goes to, and the queues of its groups, read in one
-- snapshot: what the message's version says is what its publisher delivered to. Internal.
CREATE OR REPLACE FUNCTION tandem.publish_target(topic text, payloads jsonb[], OUT id integer, OUT version integer,
                                                 OUT dedup_window interval, OUT queues text[])
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    largest bigint := (SELECT max(octet_length(p::text)) FROM unnest(payloads) AS p);
    sealed boolean;
BEGIN
    SELECT t.id, t.version, t.dedup_window, t.encrypted,
           ARRAY(SELECT g.queue FROM tandem.topic_group AS g WHERE g.topic_id = t.id AND g.version <= t.version ORDER BY g.id)
    INTO id, version, dedup_window, sealed, queues
    FROM tandem.topic AS t WHERE t.name = topic;
    IF id IS NULL THEN
        RAISE EXCEPTION 'there is no topic "%"', topic USING ERRCODE = 'undefined_object', HINT = 'Make it with: tandem topics create.';
    END IF;
    -- The caller's own login: functions with their owner's rights and SET ROLE do not change it. Superusers are members of all.
    IF pg_has_role(session_user, to_regrole('tandem_system'), 'MEMBER')
        AND NOT (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = session_user)
        AND NOT EXISTS (SELECT FROM tandem.topic_grant AS g WHERE g.principal = 'postgres:' || session_user
                        AND g.operation = 'publish' AND g.topic IN (publish_target.topic, '*')) THEN
        RAISE EXCEPTION 'login "%" may not publish to topic "%"', session_user, topic USING ERRCODE = 'insufficient_privilege',
            HINT = format('An administrator can allow it: tandem topics grant postgres:%s publish %s', session_user, topic);
    END IF;
    IF largest > 262144 THEN
        RAISE EXCEPTION 'a message of % bytes is over the limit of 262144', largest
            USING ERRCODE = 'program_limit_exceeded', HINT = 'Store the data in a table and publish its key.';
    END IF;
    IF sealed AND EXISTS (SELECT FROM unnest(payloads) AS p WHERE jsonb_typeof(p) <> 'object' OR NOT p ? 'tandem_sealed') THEN
        RAISE EXCEPTION 'topic "%" takes encrypted payloads only', topic
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Publish through the API or with the topic''s key.';
    END IF;
END
$$;

-- tandem.claim_message_ids(...): who owns each message of a call: itself, or the first one of its id within the dedup
-- window. Elements without an id or key own themselves. Internal: publish_messages calls it.
CREATE OR REPLACE FUNCTION tandem.claim_message_ids(
    topic_id integer, until timestamptz, at timestamptz, payloads jsonb[], keys text[], ids uuid[], places bigint[],
    message_ids uuid[], dedup_keys text[], OUT owners uuid[], OUT places_of bigint[], OUT same boolean[]
)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
WITH input AS MATERIALIZED (
    SELECT u.ord, u.id, u.place, coalesce(u.dedup_key, u.given::text) AS name,
           sha256(convert_to(coalesce(u.key, '') || E'\n' || u.body::text, 'UTF8')) AS hash
    FROM unnest(ids, places, payloads, keys, message_ids, dedup_keys) WITH ORDINALITY
        AS u(id, place, body, key, given, dedup_key, ord) WHERE u.ord <= cardinality(places)
), firsts AS (  -- one row per name, in its order: a batch that has a name twice, and batches in any order
    SELECT DISTINCT ON (name) name, id, place, hash FROM input WHERE name IS NOT NULL ORDER BY name, ord
), held AS (
    INSERT INTO tandem.message_dedup AS k (topic_id, id, message_id, "position", body_hash, expires_at)
    SELECT topic_id, name, id, place, hash, until FROM firsts
    ON CONFLICT (topic_id, id) DO UPDATE SET (message_id, "position", body_hash, expires_at) = (
        SELECT CASE WHEN f.free THEN excluded.message_id ELSE k.message_id END,
               CASE WHEN f.free THEN excluded."position" ELSE k."position" END,
               CASE WHEN f.free THEN excluded.body_hash ELSE k.body_hash END,
               CASE WHEN f.free THEN excluded.expires_at ELSE k.expires_at END
        FROM (SELECT k.expires_at <= at AS free) AS f)
    RETURNING k.id, k.message_id, k."position", k.body_hash
)
SELECT array_agg(coalesce(h.message_id, i.id) ORDER BY i.ord), array_agg(coalesce(h."position", i.place) ORDER BY i.ord),
       array_agg(coalesce(h.body_hash = i.hash, true) ORDER BY i.ord)
FROM input AS i LEFT JOIN held AS h ON h.id = i.name
$$;

-- tandem.deliver_messages(...): writes the deliveries of messages to queues of groups: one ordinary job for each pair,
-- its kind named like its queue, its partition key the message's key. Internal: publish and fill call it.
CREATE OR REPLACE FUNCTION tandem.deliver_messages(
    topic text, at timestamptz, queues text[], places bigint[], ids uuid[], keys text[], bodies jsonb[], headers jsonb[],
    schemas smallint[], published_ats timestamptz[], wake text DEFAULT 'commit'
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    made record;
BEGIN
    SELECT array_agg(nextval('tandem.job_id')) AS ids, array_agg(q.queue) AS queues, array_agg(m.payload) AS payloads,
           array_agg(m.key) AS keys, array_agg(m.id) AS events, array_agg(m.header) AS contexts INTO made
    FROM (SELECT u.id, u.key, u.header, tandem.delivery(
              topic, u.place, u.id, u.key, coalesce(u.schema, 1::smallint), coalesce(u.published_at, at), u.header, u.body) AS payload
          FROM unnest(places, ids, keys, bodies, headers, schemas, published_ats)
              AS u(place, id, key, body, header, schema, published_at) OFFSET 0) AS m  -- built once, for every group
    CROSS JOIN unnest(queues) AS q(queue);
    PERFORM tandem.insert_jobs(at, made.ids, made.queues, made.payloads, made.queues, NULL, NULL, made.keys, made.events, NULL, made.contexts);
    IF wake = 'commit' THEN
        PERFORM tandem.wake_at_commit(l.lane) FROM (SELECT DISTINCT tandem.wake_lane(q) AS lane FROM unnest(queues) AS q) AS l;
    END IF;
    RETURN cardinality(made.ids);
END
$$;

-- tandem.publish_one(...): one message without an id of its own: tandem.publish_messages without the array machinery, whose
-- statements cost more than the rows of one message. Internal. The transaction has its xid; `at` was read after it.
CREATE OR REPLACE FUNCTION tandem.publish_one(
    topic text, topic_id integer, version integer, queues text[], at timestamptz, payload jsonb, key text, header jsonb,
    schema smallint, wake text, OUT id uuid, OUT place bigint
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    xid text := pg_current_xact_id();
    managed text[] := ARRAY(SELECT q.name FROM tandem.queue AS q WHERE q.managed AND q.name = ANY (queues));
    body jsonb; queue text; mark text; wakes boolean; job bigint;
BEGIN
    place := nextval('tandem.message_position');
    id := tandem.uuid7(at);
    INSERT INTO tandem.message ("position", published_at, xid, message_id, topic_id, version, schema_version, key, payload, headers)
    VALUES (place, at, xid::bigint, id, topic_id, version, schema, key, payload, header);
    body := tandem.delivery(topic, place, id, key, schema, at, header, payload);
    FOREACH queue IN ARRAY queues LOOP
        job := nextval('tandem.job_id');
        INSERT INTO tandem.job (id, created_at, event_id, priority, queue, kind, partition_key, payload, context)
        VALUES (job, at, id, 5, queue, queue, key, body, header);
        -- As in tandem.enqueue: the first row of a transaction and lane wakes it at the commit.
        mark := 'tandem.wake_' || tandem.wake_lane(queue);
        wakes := wake = 'commit' AND current_setting(mark, true) IS DISTINCT FROM xid;
        IF wakes THEN mark := set_config(mark, xid, true); END IF;
        IF queue = ANY (managed) THEN
            PERFORM tandem.block_job(job, at, queue, 5, key, wakes);
        ELSE
            INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, wakes, queue, partition_key)
            VALUES (nextval('tandem.ready_position'), job, at, 5, 0, 0, false, wakes, queue, key);
        END IF;
    END LOOP;
END
$$;

-- tandem.publish_messages(topic, payloads, ...): appends messages to a topic in the caller's transaction and writes the
-- deliveries of every group beside them. One array element per message; arrays may be NULL. A message with a
-- message_id or a dedup_key is published once per dedup window: a repeat answers the first one (created is false),
-- with same_body false where the body differs. Answers one row per message in the order given.
CREATE OR REPLACE FUNCTION tandem.publish_messages(
    topic text, payloads jsonb[], keys text[] DEFAULT NULL, headers jsonb[] DEFAULT NULL, message_ids uuid[] DEFAULT NULL,
    dedup_keys text[] DEFAULT NULL, schema_versions smallint[] DEFAULT NULL, wake text DEFAULT 'commit'
) RETURNS TABLE (ord bigint, message_id uuid, "position" bigint, created boolean, same_body boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    at timestamptz; target record; places bigint[]; ids uuid[]; owners uuid[]; owner_places bigint[]; same boolean[];
BEGIN
    -- As in tandem.enqueue_jobs: the xid comes before any position and before the clock is read.
    PERFORM pg_current_xact_id();
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        -- An old snapshot would miss a group made meanwhile: this fails (40001) if the topic has changed since.
        PERFORM FROM tandem.topic AS t WHERE t.name = topic FOR SHARE;
    END IF;
    at := tandem.clock();
    target := tandem.publish_target(topic, payloads);
    PERFORM tandem.refuse_size(NULL, NULL, h) FROM unnest(headers) AS h WHERE NOT tandem.fits_size(NULL, NULL, h);
    IF cardinality(payloads) = 1 AND message_ids IS NULL AND dedup_keys IS NULL THEN
        RETURN QUERY SELECT 1::bigint, o.id, o.place, true, true FROM tandem.publish_one(
            topic, target.id, target.version, target.queues, at, payloads[1], keys[1], headers[1], coalesce(schema_versions[1], 1::smallint), wake) AS o; RETURN;
    END IF;
    SELECT array_agg(nextval('tandem.message_position') ORDER BY u.ord),
           array_agg(coalesce(u.id, tandem.uuid7(at)) ORDER BY u.ord) INTO places, ids
    FROM unnest(payloads, message_ids) WITH ORDINALITY AS u(body, id, ord) WHERE u.ord <= cardinality(payloads);
    owners := ids; owner_places := places;
    IF message_ids IS NOT NULL OR dedup_keys IS NOT NULL THEN
        SELECT d.owners, d.places_of, d.same INTO owners, owner_places, same
        FROM tandem.claim_message_ids(target.id, at + target.dedup_window, at, payloads, keys, ids, places, message_ids, dedup_keys) AS d;
    END IF;
    INSERT INTO tandem.message ("position", published_at, xid, message_id, topic_id, version, schema_version, key, payload, headers)
    SELECT i.place, at, pg_current_xact_id()::text::bigint, i.id, target.id, target.version, coalesce(i.schema, 1::smallint), i.key, i.body, i.header
    FROM unnest(places, ids, owner_places, keys, payloads, headers, schema_versions)
        AS i(place, id, owner, key, body, header, schema) WHERE i.place = i.owner;
    PERFORM tandem.deliver_messages(topic, at, target.queues, u.places, u.ids, u.keys, u.bodies, u.headers, u.schemas, NULL, wake)
    FROM (SELECT array_agg(v.place ORDER BY v.place) AS places, array_agg(v.id ORDER BY v.place) AS ids,
                 array_agg(v.key ORDER BY v.place) AS keys, array_agg(v.body ORDER BY v.place) AS bodies,
                 array_agg(v.header ORDER BY v.place) AS headers, array_agg(v.schema ORDER BY v.place) AS schemas
          FROM unnest(places, ids, owner_places, keys, payloads, headers, schema_versions)
              AS v(place, id, owner, key, body, header, schema) WHERE v.place = v.owner) AS u
    WHERE cardinality(target.queues) > 0 AND u.places IS NOT NULL;
    RETURN QUERY SELECT o.ord, o.id, o.place, o.place = o.mine, coalesce(o.same, true)
    FROM unnest(owners, owner_places, places, same) WITH ORDINALITY AS o(id, place, mine, same, ord);
END
$$;

-- tandem.publish(topic, message, ...): publishes one message in the caller's transaction and answers its id. For
-- programs in any language; consumers are woken when the caller commits. With message_id or dedup_key a repeat with the
-- same body answers the first message's id, another body raises unique_violation (23505).
CREATE OR REPLACE FUNCTION tandem.publish(
    topic text, message jsonb, key text DEFAULT NULL, headers jsonb DEFAULT NULL, message_id uuid DEFAULT NULL,
    dedup_key text DEFAULT NULL, schema_version integer DEFAULT 1
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer record;
BEGIN
    SELECT p.message_id, p.same_body INTO answer FROM tandem.publish_messages(
        topic, ARRAY[message], ARRAY[key], ARRAY[headers], CASE WHEN message_id IS NOT NULL THEN ARRAY[message_id] END,
        CASE WHEN dedup_key IS NOT NULL THEN ARRAY[dedup_key] END, ARRAY[schema_version]::smallint[]) AS p;
    IF NOT answer.same_body THEN
        RAISE EXCEPTION '"%" belongs to message % of topic "%" with another body', coalesce(dedup_key, message_id::text),
            answer.message_id, topic USING ERRCODE = 'unique_violation', HINT = 'Use another id for another message.';
    END IF;
    RETURN answer.message_id;
END
$$;

-- tandem.add_message_partition(topic_id, number): makes partition `number` of a topic: positions from number * 10^9 on.
-- Made outside the parents' locks and then attached. Answers false where it is there already.
CREATE OR REPLACE FUNCTION tandem.add_message_partition(topic_id integer, number bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parent text := 'message_' || topic_id;
    child text := format('message_%s_%s', topic_id, number);
BEGIN
    IF to_regclass('tandem.' || parent) IS NULL THEN
        EXECUTE format('CREATE TABLE tandem.%I (LIKE tandem.message INCLUDING ALL) PARTITION BY RANGE ("position")', parent);
        EXECUTE format('ALTER TABLE tandem.message ATTACH PARTITION tandem.%I FOR VALUES IN (%s)', parent, topic_id);
    END IF;
    IF to_regclass('tandem.' || child) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE tandem.%I (LIKE tandem.message INCLUDING ALL)', child);
    EXECUTE format('ALTER TABLE tandem.%I ATTACH PARTITION tandem.%I FOR VALUES FROM (%s) TO (%s)',
                   parent, child, number * 1000000000, (number + 1) * 1000000000);
    RETURN true;
END
$$;

-- tandem.create_topic(name, ...): makes a topic and its first partitions; answers its id. A topic that is there stays
-- as it is.
CREATE OR REPLACE FUNCTION tandem.create_topic(
    name text, retention interval DEFAULT '7 days', dedup_window interval DEFAULT '1 day', drop_unread boolean DEFAULT false,
    encrypted boolean DEFAULT false, created_by text DEFAULT NULL
) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    made integer;
    current bigint;
BEGIN
    INSERT INTO tandem.topic (name, retention, dedup_window, drop_unread, encrypted, created_at, created_by)
    VALUES (create_topic.name, create_topic.retention, create_topic.dedup_window, create_topic.drop_unread,
            create_topic.encrypted, tandem.clock(), create_topic.created_by)
    ON CONFLICT DO NOTHING RETURNING id INTO made;
    IF made IS NULL THEN
        RETURN (SELECT t.id FROM tandem.topic AS t WHERE t.name = create_topic.name);
    END IF;
    current := (SELECT s.last_value / 1000000000 FROM tandem.message_position AS s);
    PERFORM tandem.add_message_partition(made, n) FROM generate_series(current, current + 2) AS n;
    RETURN made;
END
$$;

-- tandem.order_topic_group(topic, group, ordered, dead_head): lets a group get its messages in order per key, one of a key
-- at a time, or no longer. Its queue becomes a managed, ordered one: workers and programs that consume claim through
-- admission then. What waits moves over with tandem.move_waiting (the sweep calls it, too).
CREATE OR REPLACE FUNCTION tandem.order_topic_group(topic text, name text, ordered boolean, dead_head text DEFAULT 'skip') RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    target text;
    q tandem.queue;
BEGIN
    UPDATE tandem.topic_group AS g SET ordered = order_topic_group.ordered
    FROM tandem.topic AS t WHERE t.id = g.topic_id AND t.name = topic AND g.name = order_topic_group.name
    RETURNING g.queue INTO target;
    IF target IS NULL THEN
        RAISE EXCEPTION 'topic "%" has no group "%"', topic, name USING ERRCODE = 'undefined_object', HINT = 'See: tandem topics groups.';
    END IF;
    SELECT m.* INTO q FROM tandem.queue AS m WHERE m.name = target FOR UPDATE;
    IF ordered THEN
        PERFORM tandem.manage_queue(target, true, dead_head, q.key_max_running, q.key_rate, coalesce(q.key_burst, 1), coalesce(q.rank_keys, false));
    ELSE
        UPDATE tandem.queue AS m SET managed = false WHERE m.name = target AND m.managed;
    END IF;
    PERFORM tandem.wake_at_commit(tandem.wake_lane(target));
END
$$;

-- tandem.create_topic_group(topic, name, ...): makes a consumer group that gets every message from now on, and, when
-- from_position is given, those of the log from there on. Answers its id; a group that is there stays as it is.
-- Publishers that run now may not know the group: the fill made here delivers what they commit later, exactly once.
-- `ordered`: strict order per key; a dead letter is passed over or stops its key (dead_head skip or block).
CREATE OR REPLACE FUNCTION tandem.create_topic_group(
    topic text, name text, from_position bigint DEFAULT NULL, max_attempts integer DEFAULT 5, retry_delay_ms integer DEFAULT 2000,
    backoff text DEFAULT 'exponential', ordered boolean DEFAULT false, created_by text DEFAULT NULL,
    dead_head text DEFAULT 'skip'
) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    target tandem.topic;
    made integer;
    queue text := tandem.topic_queue(topic, name);
BEGIN
    SELECT t.* INTO target FROM tandem.topic AS t WHERE t.name = create_topic_group.topic FOR NO KEY UPDATE;
    IF target.id IS NULL THEN
        RAISE EXCEPTION 'there is no topic "%"', topic USING ERRCODE = 'undefined_object', HINT = 'Make it with: tandem topics create.';
    END IF;
    made := (SELECT g.id FROM tandem.topic_group AS g WHERE g.topic_id = target.id AND g.name = create_topic_group.name);
    IF made IS NOT NULL THEN
        RETURN made;
    END IF;
    UPDATE tandem.topic SET version = version + 1 WHERE id = target.id;
    INSERT INTO tandem.queue (name, created_at) VALUES (queue, tandem.clock()) ON CONFLICT DO NOTHING;
    INSERT INTO tandem.topic_group (topic_id, name, queue, version, start_position, max_attempts, retry_delay_ms, backoff, ordered,
                                    created_at, created_by)
    SELECT target.id, create_topic_group.name, queue, target.version + 1, coalesce(from_position, s.last_value + 1),
           create_topic_group.max_attempts, create_topic_group.retry_delay_ms, create_topic_group.backoff,
           create_topic_group.ordered, tandem.clock(), create_topic_group.created_by
    FROM tandem.message_position AS s RETURNING id INTO made;
    INSERT INTO tandem.topic_fill (group_id, reason, from_position, to_position, cursor, snapshot, history_done, requested_at, requested_by)
    SELECT made, 'start', coalesce(from_position, s.last_value + 1), s.last_value, coalesce(from_position, s.last_value + 1) - 1,
           pg_current_snapshot(), from_position IS NULL, tandem.clock(), create_topic_group.created_by
    FROM tandem.message_position AS s;
    IF ordered THEN
        PERFORM tandem.order_topic_group(topic, name, true, dead_head);
    END IF;
    RETURN made;
END
$$;

-- tandem.deliver_again(topic_id, queues, positions): writes deliveries of messages that stand in the log. Internal.
CREATE OR REPLACE FUNCTION tandem.deliver_again(topic_id integer, queues text[], positions bigint[]) RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce(sum(tandem.deliver_messages(u.topic, u.at, queues, u.places, u.ids, u.keys, u.bodies, u.headers, u.schemas, u.ats)), 0)
FROM (SELECT t.name AS topic, tandem.clock() AS at, array_agg(m."position" ORDER BY m."position") AS places,
             array_agg(m.message_id ORDER BY m."position") AS ids, array_agg(m.key ORDER BY m."position") AS keys,
             array_agg(m.payload ORDER BY m."position") AS bodies, array_agg(m.headers ORDER BY m."position") AS headers,
             array_agg(m.schema_version ORDER BY m."position") AS schemas, array_agg(m.published_at ORDER BY m."position") AS ats
      FROM tandem.message AS m JOIN tandem.topic AS t ON t.id = m.topic_id
      WHERE m.topic_id = deliver_again.topic_id AND m."position" = ANY (positions) GROUP BY t.name) AS u
$$;

-- tandem.fill_gap(fill): delivers to a new group what publishers that did not know it have committed since the fill's
-- snapshot, and moves the snapshot on, so that no message comes twice. The fill is finished once every transaction
-- has ended that began before the group could be seen: they have lower ids than `boundary`. Internal; the row is locked.
CREATE OR REPLACE FUNCTION tandem.fill_gap(fill bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    f record;
    found record;
BEGIN
    UPDATE tandem.topic_fill AS x SET boundary = coalesce(x.boundary, pg_current_xact_id()) WHERE x.id = fill;
    SELECT x.snapshot, x.boundary, g.queue, g.topic_id, g.version INTO f
    FROM tandem.topic_fill AS x JOIN tandem.topic_group AS g ON g.id = x.group_id WHERE x.id = fill;
    -- One statement, so one snapshot: what it sees is what the fill will have seen.
    SELECT coalesce(array_agg(m."position" ORDER BY m."position") FILTER (WHERE m."position" IS NOT NULL), '{}') AS positions,
           pg_current_snapshot() AS snapshot INTO found
    FROM tandem.message AS m
    WHERE m.topic_id = f.topic_id AND m.version < f.version AND m.xid >= pg_snapshot_xmin(f.snapshot)::text::bigint
      AND m.xid < f.boundary::text::bigint AND NOT pg_visible_in_snapshot(m.xid::text::xid8, f.snapshot);
    PERFORM tandem.deliver_again(f.topic_id, ARRAY[f.queue], found.positions);
    UPDATE tandem.topic_fill AS x
    SET snapshot = found.snapshot, delivered = x.delivered + cardinality(found.positions),
        finished_at = CASE WHEN pg_snapshot_xmin(found.snapshot) >= f.boundary THEN tandem.clock() END
    WHERE x.id = fill;
    RETURN cardinality(found.positions);
END
$$;

-- tandem.fill_topic(fill, most): delivers the next messages of one fill and answers how many; NULL when it is finished,
-- gone, or in other hands. First the history that its snapshot saw, in order of positions, `most` at a time. Then, for a
-- new group, what publishers that did not know it committed later (tandem.fill_gap).
CREATE OR REPLACE FUNCTION tandem.fill_topic(fill bigint, most integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    f record;
    found bigint[];
BEGIN
    PERFORM pg_current_xact_id();
    SELECT x.id, x.reason, x.cursor, x.to_position, x.snapshot, x.history_done, g.queue, g.topic_id INTO f
    FROM tandem.topic_fill AS x JOIN tandem.topic_group AS g ON g.id = x.group_id
    WHERE x.id = fill AND x.finished_at IS NULL FOR UPDATE OF x SKIP LOCKED;
    IF f.id IS NULL THEN
        RETURN NULL;
    ELSIF f.history_done THEN
        RETURN tandem.fill_gap(fill);
    END IF;
    SELECT coalesce(array_agg(u."position" ORDER BY u."position"), '{}') INTO found FROM (
        SELECT m."position" FROM tandem.message AS m
        WHERE m.topic_id = f.topic_id AND m."position" > f.cursor AND m."position" <= f.to_position
          AND pg_visible_in_snapshot(m.xid::text::xid8, f.snapshot) ORDER BY m."position" LIMIT most) AS u;
    PERFORM tandem.deliver_again(f.topic_id, ARRAY[f.queue], found);
    UPDATE tandem.topic_fill AS x
    SET cursor = coalesce(found[cardinality(found)], x.cursor), delivered = x.delivered + cardinality(found),
        history_done = cardinality(found) < most,
        finished_at = CASE WHEN cardinality(found) < most AND x.reason <> 'start' THEN tandem.clock() END
    WHERE x.id = fill;
    RETURN cardinality(found);
END
$$;

-- tandem.unread_messages(topic_id, first, past): for each group, how many messages in [first, past) it has yet to
-- handle: deliveries that wait or run, and what open fills have not delivered.
CREATE OR REPLACE FUNCTION tandem.unread_messages(topic_id integer, first bigint, past bigint)
RETURNS TABLE (group_id integer, messages bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT g.id, (
    SELECT count(*) FROM (
        SELECT r.job_id FROM tandem.ready AS r WHERE r.queue = g.queue
        UNION ALL SELECT l.job_id FROM tandem.lease AS l WHERE l.queue = g.queue
        UNION ALL SELECT s.job_id FROM tandem.scheduled AS s WHERE s.queue = g.queue
        UNION ALL SELECT b.job_id FROM tandem.blocked AS b WHERE b.queue = g.queue) AS m
    JOIN tandem.job AS j ON j.id = m.job_id
    WHERE (j.payload ->> 'position')::bigint >= first AND (j.payload ->> 'position')::bigint < past
) + (
    SELECT count(*) FROM tandem.topic_fill AS f JOIN tandem.message AS m ON m.topic_id = g.topic_id
    WHERE f.group_id = g.id AND f.finished_at IS NULL AND NOT f.history_done AND m."position" >= first AND m."position" < past
      AND m."position" > f.cursor AND m."position" <= f.to_position)
FROM tandem.topic_group AS g WHERE g.topic_id = unread_messages.topic_id
$$;

-- tandem.drop_message_partition(topic_id, number): drops one partition of a topic's log when its newest message is past
-- the topic's retention. Answers 'young', 'unread' (a group has not handled all of it, and the topic keeps such
-- messages), or 'dropped'; what groups lose is counted in topic_loss. Waits at most lock_timeout.
CREATE OR REPLACE FUNCTION tandem.drop_message_partition(topic_id integer, number bigint) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    target tandem.topic;
    first bigint := number * 1000000000;
    past bigint := (number + 1) * 1000000000;
    child text := format('message_%s_%s', topic_id, number);
    unread record;
BEGIN
    SELECT t.* INTO target FROM tandem.topic AS t WHERE t.id = drop_message_partition.topic_id;
    IF (SELECT s.last_value < past FROM tandem.message_position AS s) OR EXISTS (
        SELECT FROM (SELECT m.published_at FROM tandem.message AS m WHERE m.topic_id = target.id AND m."position" >= first
                     AND m."position" < past ORDER BY m."position" DESC LIMIT 1) AS newest
        WHERE newest.published_at > tandem.clock() - target.retention) THEN
        RETURN 'young';
    END IF;
    EXECUTE format('LOCK TABLE tandem.%I IN ACCESS EXCLUSIVE MODE', child);
    FOR unread IN SELECT u.group_id, u.messages FROM tandem.unread_messages(target.id, first, past) AS u WHERE u.messages > 0 LOOP
        IF NOT target.drop_unread THEN
            RETURN 'unread';
        END IF;
        INSERT INTO tandem.topic_loss (topic_id, group_id, at, messages)
        VALUES (target.id, unread.group_id, tandem.clock(), unread.messages);
    END LOOP;
    EXECUTE format('ALTER TABLE tandem.%I DETACH PARTITION tandem.%I', 'message_' || target.id, child);
    EXECUTE format('DROP TABLE tandem.%I', child);
    RETURN 'dropped';
END
$$;

CREATE TRIGGER audit_entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tandem.audit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION tandem.refuse_change();
CREATE TRIGGER audit_chain_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tandem.audit_chain
    FOR EACH STATEMENT EXECUTE FUNCTION tandem.refuse_change();
CREATE TRIGGER audit_head_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tandem.audit_head
    FOR EACH STATEMENT EXECUTE FUNCTION tandem.refuse_change();

-- tandem.finish_leases(...): finishes succeeded jobs as finish_jobs does, and answers the ids that were still ours. Internal
-- to admission: a slot that ends and its next job are one transaction, so that a limit that is reached stays reached. What
-- ended in `heard_by`, the queue that is admitted to next, is answered as touches not yet written. Where that is a topic's
-- group, the jobs are its deliveries.
-- `= ANY (ARRAY[…])` keeps leases looked up one by one: the statement finish_jobs says why.
CREATE OR REPLACE FUNCTION tandem.finish_leases(
    heard_by text, job_ids bigint[], tokens bigint[], ran_ms double precision[], results text[], ttls double precision[],
    OUT finished bigint[], OUT ends tandem.touch[]
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    WITH input AS MATERIALIZED (
        SELECT u.job_id, u.token, u.ran_ms, u.result, u.ttl
        FROM unnest(job_ids, tokens, ran_ms, results, ttls) AS u(job_id, token, ran_ms, result, ttl) ORDER BY u.job_id
    ), clock AS MATERIALIZED (SELECT tandem.clock() AS at), gone AS (
        DELETE FROM tandem.lease AS l USING input AS i
        WHERE l.job_id = ANY (ARRAY[i.job_id]) AND l.token = i.token
        RETURNING l.job_id, l.token, l.worker, l.attempt, i.ran_ms, i.result, i.ttl, l.queue, l.partition_key, l.slot, l.charged_ms
    ), by_key AS (
        SELECT g.queue, coalesce(g.partition_key, '') AS partition_key, count(*) AS ended, sum(g.ran_ms) AS ran, sum(g.charged_ms) AS charged
        FROM gone AS g WHERE g.slot IS NOT NULL GROUP BY 1, 2
    ), told AS (
        INSERT INTO tandem.touch (queue, partition_key, ended, ran_ms, charged_ms)
        SELECT k.queue, k.partition_key, k.ended, k.ran, k.charged FROM by_key AS k WHERE k.queue IS DISTINCT FROM heard_by
    ), closed AS (
        INSERT INTO tandem.done (job_id, token, worker, started_at, finished_at, attempt, outcome, result, result_expires_at)
        SELECT g.job_id, g.token, g.worker, c.at - g.ran_ms * interval '1 ms', c.at, g.attempt, 'SUCCEEDED', g.result::jsonb,
               c.at + g.ttl * interval '1 s'
        FROM gone AS g CROSS JOIN clock AS c
        RETURNING job_id
    )
    SELECT (SELECT coalesce(array_agg(c.job_id), '{}') FROM closed AS c),
           (SELECT array_agg(ROW(k.queue, 0, k.partition_key, NULL, NULL, k.ended, k.ran, k.charged)::tandem.touch)
            FROM by_key AS k WHERE k.queue = heard_by)
    INTO finished, ends;
    IF starts_with(heard_by, 'topic.') THEN  -- deliveries: what the audit log of topics will tell
        INSERT INTO tandem.delivery_end (xid, queue, action, worker, attempt, started_at, ended_at, job_ids)
        SELECT pg_current_xact_id(), heard_by, 'ack', d.worker, d.attempt, min(d.started_at), max(d.finished_at), array_agg(d.job_id)
        FROM tandem.done AS d WHERE d.job_id = ANY (finished) GROUP BY d.worker, d.attempt;
    END IF;
END
$$;
