-- Operations: work that outlasts one request, as a resource that its client or a scheduler advances.
--
-- What an operation is (all columns up to `mac`) never changes and is covered by the row's MAC. How far
-- it is changes with every step and is not: it decides nothing that its creator may not do anyway, since
-- each step asks for its permissions anew.
--
-- One more SQLSTATE of class TF:
--   TF013 the principal has as many running operations as it may have

create table public.operation (
  id uuid not null,
  kind text collate "C" not null,
  namespace text collate "C" not null,
  -- The key that it is about; null for one that is about none or many.
  key_id uuid,
  -- What was asked for, in the words of its kind: texts, integers, truth values, nulls.
  request jsonb not null,
  issuer text collate "C" not null,
  subject text collate "C" not null,
  -- Items a second, over all instances.
  rate integer not null,
  created_at timestamptz(3) not null,
  mac bytea not null,
  state text not null,
  -- Why it was cancelled or failed.
  reason text,
  -- Items that are done, from the first on.
  position bigint not null,
  -- Counts of its kind.
  counts jsonb not null,
  updated_at timestamptz(3) not null,
  -- A running operation ends by itself then; some time later the row goes.
  expires_at timestamptz(3) not null,
  revision integer not null,
  -- By the database's clock: before then no further items are taken.
  paced_until timestamptz(6),
  constraint operation_pkey primary key (id),
  constraint operation_namespace_fkey foreign key (namespace) references public.namespace (name)
    on update restrict on delete restrict,
  constraint operation_request check (jsonb_typeof(request) = 'object'),
  constraint operation_counts check (jsonb_typeof(counts) = 'object'),
  constraint operation_state check (state in ('running', 'succeeded', 'failed', 'cancelled')),
  constraint operation_rate check (rate >= 1),
  constraint operation_position check (position >= 0)
);
-- Pages, newest first, of all and of one principal's.
create index operation_namespace_created_at_id_idx
  on public.operation (namespace, created_at, id);
create index operation_issuer_subject_created_at_id_idx
  on public.operation (issuer, subject, created_at, id);
create index operation_expires_at_idx on public.operation (expires_at);
create trigger operation_onward before update on public.operation
  for each row when (
    (old.state <> 'running' and new.state <> old.state) or new.position < old.position
  )
  execute function public.refuse_change('what has ended stays so, and what is done is done');

-- One write; `p_write` is {kind: 'insert', row, running} with the most running operations that the
-- principal may have, or {kind: 'advance', row, expected} with the row's id and its changing columns.
create function public.write_operation_row(p_write jsonb) returns void language plpgsql as $$
declare
  o public.operation := jsonb_populate_record(null::public.operation, p_write -> 'row');
  running bigint;
begin
  case p_write ->> 'kind'
    when 'insert' then
      -- Two at once would both find room for the last one.
      perform pg_advisory_xact_lock(7413);
      select count(*) into running from public.operation
        where issuer = o.issuer and subject = o.subject and state = 'running'
          and expires_at > clock_timestamp();
      if running >= (p_write ->> 'running')::bigint then
        raise exception 'too many running operations' using errcode = 'TF013';
      end if;
      o.paced_until := null;
      insert into public.operation select o.*;
    when 'advance' then
      update public.operation set
        state = o.state, reason = o.reason, position = o.position, counts = o.counts,
        updated_at = o.updated_at, expires_at = o.expires_at, revision = o.revision
      where id = o.id and revision = (p_write ->> 'expected')::integer;
      if not found then raise exception 'operation moved' using errcode = 'TF006'; end if;
  end case;
end $$;

-- A step of an operation and the audit entry that says so, in one statement and so one round trip.
-- Under the shared side of the epoch barrier, like the answer that it is: it changes nothing that
-- another answer stands on, so the epoch stays. Returns as `append` does.
create function public.commit_operation(
  p_epoch bigint, p_write jsonb, p_idempotency jsonb,
  p_lane integer, p_n bigint, p_hmac bytea, p_leaf bytea, p_body bytea, p_at timestamptz,
  p_namespace text, p_operation text, p_key_id uuid, p_key_ref text, p_subject text, p_outcome text
) returns bigint language plpgsql as $$
declare
  now_epoch bigint;
  repeat public.idempotency;
begin
  perform public.require_read_committed();
  perform pg_advisory_xact_lock_shared(7411);
  if public.entries_present(p_lane, p_n, array[p_leaf]) then return p_epoch; end if;
  select epoch into strict now_epoch from public.security_epoch;
  if now_epoch <> p_epoch then return -now_epoch; end if;
  perform public.append_entries(p_lane, p_n, p_hmac, array[p_leaf], array[p_body], array[p_at],
    array[p_namespace], array[p_operation], array[p_key_id], array[p_key_ref], array[p_subject],
    array[p_outcome]);
  if p_idempotency is not null then
    repeat := jsonb_populate_record(null::public.idempotency, p_idempotency);
    repeat.created_at := current_timestamp;
    insert into public.idempotency select repeat.* on conflict do nothing;
    if not found then raise exception 'idempotency key taken' using errcode = 'TF009'; end if;
  end if;
  perform public.write_operation_row(p_write);
  return now_epoch;
end $$;

-- Takes the time of `p_items` at the operation's rate: 0, or the milliseconds after which to ask again
-- and nothing was taken. One statement, so that all instances together keep to the rate. An idle second
-- may be made up for.
create function public.pace_operation(p_id uuid, p_items integer) returns bigint language plpgsql as $$
declare
  moment timestamptz := clock_timestamp();
  until timestamptz;
begin
  update public.operation set paced_until =
      greatest(paced_until, moment - interval '1 s') + p_items * interval '1 s' / rate
    where id = p_id and (paced_until is null or paced_until <= moment);
  if found then return 0; end if;
  select paced_until into until from public.operation where id = p_id;
  if not found then return 0; end if;
  return greatest(1, ceil(extract(epoch from until - clock_timestamp()) * 1000));
end $$;

revoke execute on function public.commit_operation, public.pace_operation,
  public.write_operation_row from public;
grant execute on function public.commit_operation, public.pace_operation,
  public.write_operation_row to twofold_app;
grant select, insert, delete on public.operation to twofold_app;
grant update (state, reason, position, counts, updated_at, expires_at, revision, paced_until)
  on public.operation to twofold_app;
