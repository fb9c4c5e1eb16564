-- Which token an instance uses, so that a zone that lacks a key of another token can name the zones that
-- have it. Null for instances of versions before, and until the token was seen.
alter table public.instance add column token_serial text
  constraint instance_token_serial check (token_serial is null or octet_length(token_serial) between 1 and 64);
grant update (token_serial) on public.instance to twofold_app;
