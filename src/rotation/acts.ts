/** How each due action is done: by the same operations as an administrator's, under the scheduler's grant. */
import type { Grant, Operation } from '../access/grant.ts';
import { findSuiteByNumber } from '../crypto/suites.ts';
import type { KeyLifecycle } from '../keyring/lifecycle-operations.ts';
import type { ChangeRun, KeyManage } from '../keyring/operations.ts';
import type { DueAction } from './due.ts';

type GrantFor = <O extends Operation>(operation: O) => Grant<O>;

/** Does one action; rejects as the keyring's operations do. */
export type Act = (grant: GrantFor, action: DueAction, run: ChangeRun) => Promise<unknown>;

export const actBy =
  (manage: KeyManage, lifecycle: KeyLifecycle): Act =>
  async (grant, action, run) => {
    switch (action.kind) {
      case 'rotate': {
        const suite = findSuiteByNumber(action.suite);
        return manage.rotate(grant('keys.rotate'), { suite }, run);
      }
      case 'retire': {
        const { version, cause } = action;
        const reason = `retired by its policy (${cause})`;
        return manage.retireVersion(grant('versions.retire'), { version, reason }, run);
      }
      case 'notice': {
        const { of, for: at, version } = action;
        return manage.announce(grant('keys.announce'), { of, at, version }, run);
      }
      case 'activate': {
        const { version } = action;
        return lifecycle.activateDue(grant('versions.activate'), { version }, run);
      }
      case 'deactivate': {
        const { version } = action;
        return lifecycle.deactivateDue(grant('versions.deactivate'), { version }, run);
      }
      case 'destroy-version': {
        const { version } = action;
        return lifecycle.destroyVersion(grant('versions.destroy'), { version }, run);
      }
      case 'destroy-key':
        return lifecycle.destroyKey(grant('keys.destroy'), run);
    }
  };
