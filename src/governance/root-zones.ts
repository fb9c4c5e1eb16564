/**
 * Whether every zone has a generation of the root. A rotation puts all that was acknowledged under the new
 * generation, and a retirement destroys the old one: where a zone lacks the new one, the loss of the others'
 * HSMs is then the loss of everything. Instances that live are asked beside this; a zone that is stopped has none.
 */
import { TwofoldError } from '../errors.ts';
import type { RootRotationStore } from '../keyring/root-ports.ts';

export interface InEveryZone {
  readonly generation: number;
  /** The other zones of the configuration: the one that asks has opened it itself. */
  readonly others: readonly string[];
  /** Zones that the caller gives up. */
  readonly without: readonly string[];
  /** How the caller says which zones are given up. */
  readonly say: string;
}

/** @throws TwofoldError conflict while a zone has never opened it, invalid_value for one that is none of the others */
export async function requireInEveryZone(
  rotations: Pick<RootRotationStore, 'zonesHolding'>,
  { generation, others, without, say }: InEveryZone,
): Promise<void> {
  const unknown = without.filter((zone) => !others.includes(zone));
  if (unknown.length > 0) {
    throw new TwofoldError(
      'invalid_value',
      `${say}: ${unknown.join(', ')} is not among the other zones (zone.others).`,
    );
  }
  const asked = others.filter((zone) => !without.includes(zone));
  if (asked.length === 0) return;
  const holding = await rotations.zonesHolding(generation);
  const lacking = asked.filter((zone) => !holding.includes(zone));
  if (lacking.length === 0) return;
  throw new TwofoldError(
    'conflict',
    `No instance in ${lacking.map((zone) => `zone ${zone}`).join(', ')} has opened root generation ` +
      `${String(generation)}: bring it there and start one, or give the zone up (${say}).`,
  );
}
