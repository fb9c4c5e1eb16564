/**
 * Plans that give a key further names, or take them. An alias belongs to one key of its namespace; it
 * moves from one to another in one change, so that a consumer that knows only the alias never finds
 * none.
 */
import { TwofoldError } from '../errors.ts';
import { plainPlan } from './changes.ts';
import type { Plan } from './changes.ts';
import { checkName } from './names.ts';
import type { KeyView } from './operations.ts';
import type { RowMac } from './row-mac.ts';
import { planKeyChange, planNothing } from './row-plans.ts';

/** Of one key. */
const MAX_ALIASES = 16;

/** The key that has the alias by now, when it is to move. */
export type Holder = KeyView | null;

/** @throws TwofoldError invalid_value, key_exists, not_found when the holder has no such alias */
export async function planPutAlias(
  mac: RowMac,
  view: KeyView,
  { alias, holder }: { readonly alias: string; readonly holder: Holder },
): Promise<Plan> {
  checkName(alias);
  const { key } = view;
  if (key.name === alias) throw new TwofoldError('key_exists', 'It is the name of the key itself.');
  if (key.aliases.includes(alias)) return planNothing(view, { alias });
  if (key.aliases.length >= MAX_ALIASES) {
    throw new TwofoldError('invalid_value', `A key has at most ${String(MAX_ALIASES)} aliases.`);
  }
  const aliases = [...key.aliases, alias].toSorted();
  if (holder === null || holder.key.id === key.id) {
    return planKeyChange(mac, view, { aliases }, { alias });
  }
  return planMove(mac, view, { alias, aliases, holder });
}

/** The old row first: the alias has to be free when the new one is written. */
async function planMove(
  mac: RowMac,
  view: KeyView,
  move: { readonly alias: string; readonly aliases: readonly string[]; readonly holder: KeyView },
): Promise<Plan> {
  const { alias, aliases, holder } = move;
  const gives = await planDeleteAlias(mac, holder, alias);
  // The entry is of the key that takes it, and has to account for both rows.
  const fromRevision = gives.change.after.key.revision;
  const detail = { alias, from: holder.key.name, fromKeyId: holder.key.id, fromRevision };
  const takes = await planKeyChange(mac, view, { aliases }, detail);
  const also = [holder.key.id, holder.key.name, ...holder.key.aliases];
  return plainPlan({ ...takes.change, also, from: holder }, [...gives.writes, ...takes.writes]);
}

/** @throws TwofoldError not_found */
export async function planDeleteAlias(mac: RowMac, view: KeyView, alias: string): Promise<Plan> {
  const { aliases } = view.key;
  if (!aliases.includes(alias)) {
    throw new TwofoldError('not_found', 'The key has no such alias.');
  }
  const rest = aliases.filter((name) => name !== alias);
  return planKeyChange(mac, view, { aliases: rest }, { alias });
}
