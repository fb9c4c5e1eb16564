-- Zones that join while both sides reach the database (deploy/zones.md): the two texts that otherwise travel
-- as files, and who asked and who approved. Nothing here is secret. What a row says decides nothing alone:
-- people compare the hashes of both texts, and who answers leaves a MAC that the joined zone verifies.
create table public.join_request (
  id uuid not null,
  -- The zone that joins, and its offer as it was made.
  zone text not null,
  offer text not null,
  -- SHA-384 that the people compare.
  fingerprint bytea not null,
  requested_by text not null,
  requested_at timestamptz(3) not null default current_timestamp,
  expires_at timestamptz(3) not null,
  state text not null default 'open',
  approved_by text,
  -- The zone that answers, its answer until that was taken, and the MAC over the row by `root-mac`.
  answered_from text,
  answer text,
  mac bytea,
  ended_at timestamptz(3),
  -- Why it ended otherwise than by being accepted.
  problem text,
  constraint join_request_pkey primary key (id),
  constraint join_request_zone check (length(zone) between 1 and 63),
  constraint join_request_offer check (length(offer) <= 4096),
  constraint join_request_answer check (length(answer) <= 262144),
  constraint join_request_fingerprint check (octet_length(fingerprint) = 48),
  constraint join_request_people check (
    length(requested_by) <= 256 and length(approved_by) <= 256 and length(answered_from) <= 63
  ),
  constraint join_request_time check (
    expires_at > requested_at and expires_at <= requested_at + interval '1 day'
  ),
  constraint join_request_state check (state in ('open', 'answered', 'accepted', 'ended')),
  constraint join_request_answered check (
    (approved_by is null) = (mac is null) and (answered_from is null) = (mac is null)
    and (state <> 'open' or mac is null) and (state not in ('answered', 'accepted') or mac is not null)
    and (answer is not null) = (state = 'answered')
  ),
  constraint join_request_end check (
    (ended_at is not null) = (state in ('accepted', 'ended')) and (problem is not null) = (state = 'ended')
  )
);
-- An offer is made once: one that was seen does not come again.
create unique index join_request_offer_idx on public.join_request (fingerprint);
-- The newest offer of a zone is the one that is open on its token.
create unique index join_request_zone_idx on public.join_request (zone) where state in ('open', 'answered');
create index join_request_time_idx on public.join_request (requested_at, id);
create trigger join_request_goes_on before update on public.join_request
  for each row when (
    new.id <> old.id or new.zone <> old.zone or new.offer <> old.offer
    or new.fingerprint <> old.fingerprint or new.requested_by <> old.requested_by
    or new.requested_at <> old.requested_at or new.expires_at <> old.expires_at
    or (old.mac is not null and new.mac is distinct from old.mac)
    or (old.approved_by is not null and new.approved_by is distinct from old.approved_by)
    or (old.answered_from is not null and new.answered_from is distinct from old.answered_from)
    or (old.state, new.state) not in (
      ('open', 'answered'), ('open', 'ended'), ('answered', 'accepted'), ('answered', 'ended')
    )
  )
  execute function public.refuse_change('the request of a zone goes on to its end');
grant select, insert, delete on public.join_request to twofold_app;
grant update (state, approved_by, answered_from, answer, mac, ended_at, problem) on public.join_request
  to twofold_app;
