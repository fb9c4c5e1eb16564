-- Requests that wait for others' consent, and what became of them.
create table public.approval (
  id uuid not null,
  namespace text collate "C" not null,
  issuer text collate "C" not null,
  subject text collate "C" not null,
  operation text not null,
  guards text[] not null,
  rule text,
  method text not null,
  path text not null,
  query text not null,
  if_match text,
  body_hash bytea not null,
  request_hash bytea not null,
  preview text not null,
  created_at timestamptz(3) not null,
  expires_at timestamptz(3) not null,
  state text collate "C" not null,
  reason text,
  approvers jsonb not null,
  ended_at timestamptz(3),
  revision integer not null,
  mac bytea not null,
  constraint approval_pkey primary key (id),
  constraint approval_namespace_fkey foreign key (namespace) references public.namespace (name),
  constraint approval_state_known
    check (state in ('pending', 'approved', 'denied', 'withdrawn', 'executed'))
);
create index approval_time_idx on public.approval (namespace, created_at, id);
create index approval_state_idx on public.approval (namespace, state, created_at, id);
create index approval_open_idx on public.approval (namespace, expires_at)
  where state in ('pending', 'approved');
create index approval_request_idx on public.approval (request_hash)
  where state in ('pending', 'approved');
create trigger approval_onward before update on public.approval
  for each row when (
    new.revision <= old.revision or old.state in ('denied', 'withdrawn', 'executed')
  )
  execute function public.refuse_change('what has ended stays so, and revisions only rise');

-- {row, of_namespace, of_principal}: the most open ones of the namespace, and of the requester in it.
create function public.write_insert_approval(p_write jsonb) returns void language plpgsql as $$
declare
  a public.approval := jsonb_populate_record(null::public.approval, p_write -> 'row');
  of_all bigint;
  of_one bigint;
begin
  select count(*), count(*) filter (where issuer = a.issuer and subject = a.subject)
    into of_all, of_one from public.approval
    where namespace = a.namespace and state in ('pending', 'approved')
      and expires_at > a.created_at;
  if of_all >= (p_write ->> 'of_namespace')::bigint
      or of_one >= (p_write ->> 'of_principal')::bigint then
    raise exception 'too many open approvals' using errcode = 'TF013';
  end if;
  insert into public.approval select a.*;
end $$;

create function public.write_update_approval(p_write jsonb) returns void language plpgsql as $$
declare
  a public.approval := jsonb_populate_record(null::public.approval, p_write -> 'row');
begin
  -- What was asked for, by whom and until when is for ever.
  update public.approval set state = a.state, reason = a.reason, approvers = a.approvers,
    ended_at = a.ended_at, revision = a.revision, mac = a.mac
  where id = a.id and revision = (p_write ->> 'expected')::integer;
  if not found then raise exception 'approval moved' using errcode = 'TF006'; end if;
end $$;

revoke execute on function public.write_insert_approval, public.write_update_approval from public;
grant execute on function public.write_insert_approval, public.write_update_approval to twofold_app;
grant select, insert on public.approval to twofold_app;
grant update (state, reason, approvers, ended_at, revision, mac) on public.approval to twofold_app;
