/** What may follow a key's versions: which suites, in which custody, and from when. */
import { purposesOf } from '../crypto/suite.ts';
import type { Suite } from '../crypto/suite.ts';
import { findSuiteByNumber } from '../crypto/suites.ts';
import { TwofoldError } from '../errors.ts';
import type { Plan } from './changes.ts';
import { checkAhead } from './lead-time.ts';
import type { Custody } from './material.ts';
import type { Key, KeyVersion, Purpose } from './model.ts';
import { planNewVersion, writableCustody } from './new-version.ts';
import type { NewVersionParts } from './new-version.ts';
import type { KeyView, RotateKey } from './operations.ts';
import { requireAnnounceable } from './provider-record.ts';
import { withStandingHold } from './rotation-hold.ts';
import { standing } from './row-plans.ts';
import { requireNoFallback } from './windows.ts';

/** @throws TwofoldError wrong_purpose */
export function requireServes(suite: Suite, purpose: Purpose): void {
  if (purposesOf(suite).includes(purpose)) return;
  throw new TwofoldError('wrong_purpose', `The suite does not serve ${purpose}.`);
}

/** @throws TwofoldError wrong_purpose */
export function requirePublishable(suite: Suite, publish: boolean): void {
  if (!publish) return;
  if (!('encoding' in suite)) {
    throw new TwofoldError('wrong_purpose', 'The key is symmetric: no public key to publish.');
  }
  const { jwk, spki, unavailable } = suite.encoding;
  // Its set would be empty, and verifiers would take that for a key that was withdrawn.
  if (jwk === null && spki === null) throw new TwofoldError('wrong_purpose', unavailable.spki);
}

/**
 * A rotation within a suite keeps the custody that was chosen, and with several zones the token too: whoever
 * happens to carry it out would else take the key from the zone that it was made in. Another suite takes its
 * default.
 * @throws TwofoldError zone_lacks_material; hsm_unavailable while nobody knows which token is here
 */
async function custodyOf(
  { hsm, suites, lacking = notHere }: NewVersionParts,
  view: KeyView,
  suite: Suite,
): Promise<Custody | undefined> {
  const version = standing(view);
  if (version.suite !== suite.number || !('material' in version)) return undefined;
  const half = version.material.classical?.hsm;
  if (half?.custody === 'hsm-token' && suites.tokenKeysNamed) {
    const serial = hsm.status().token?.serial;
    if (serial === undefined) throw new TwofoldError('hsm_unavailable');
    if (serial !== half.tokenSerial) throw await lacking(half.tokenSerial);
  }
  return half?.custody;
}

const notHere = (): Promise<TwofoldError> =>
  Promise.resolve(new TwofoldError('zone_lacks_material'));

/** @throws TwofoldError version_not_usable for a key that nothing is made for as it stands */
function requireGrowing({ suspension, destruction }: Key): void {
  if (suspension !== null) throw new TwofoldError('version_not_usable', 'The key is suspended.');
  if (destruction === null) return;
  throw new TwofoldError('version_not_usable', 'The key awaits its destruction.');
}

/**
 * A new version, which is the primary at once unless it activates at a time set in advance. `changed`
 * is another version as the same change leaves it.
 * @throws TwofoldError version_not_usable, wrong_purpose, suite_unavailable_here, invalid_value,
 *   zone_lacks_material for a key of another zone's token, where no custody is named
 */
export async function planSuccessor(
  parts: NewVersionParts,
  view: KeyView,
  { suite: wanted, custody: named, activateAt }: RotateKey,
  { dryRun, changed }: { readonly dryRun: boolean; readonly changed?: KeyVersion },
): Promise<Plan> {
  const { key } = view;
  requireGrowing(key);
  if (activateAt !== undefined) checkAhead('activateAt', activateAt, parts.clock());
  const suite = wanted ?? findSuiteByNumber(standing(view).suite);
  requireServes(suite, key.purpose);
  requireAnnounceable(key, suite);
  requireNoFallback(view, suite);
  requirePublishable(suite, key.publish);
  const chosen = named ?? (await custodyOf(parts, view, suite));
  const custody = await writableCustody(parts, suite, chosen);
  const version = key.latestVersion + 1;
  const primary = activateAt === undefined ? version : key.primary;
  const revision = key.revision + 1;
  const next = withStandingHold({ ...key, primary, latestVersion: version, revision });
  const successor = {
    before: view,
    key: next,
    suite,
    custody,
    ...(activateAt === undefined ? {} : { activateAt }),
    ...(changed === undefined ? {} : { changed }),
  };
  return planNewVersion(parts, successor, dryRun);
}
