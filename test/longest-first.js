/**
 * Order of the test files: the longest first. A long one that starts last keeps one processor while the
 * other has nothing to do, and a fresh clone has none of the times that jest keeps of earlier runs.
 */
import { createRequire } from 'node:module';
import { relative } from 'node:path';

// Comes with jest; its own order is what follows the files that are named here.
const require = createRequire(import.meta.url);
const Sequencer = require('@jest/test-sequencer').default;

/** Below `test`, without `.test.ts`; from the times of `--json`. */
const LONGEST = [
  'e2e/kill.slow',
  'e2e/kill-first.slow',
  'e2e/fresh-install.slow',
  'crypto/combined-engine.slow',
  'e2e/first-setup.slow',
  'http/every-suite.slow',
  'e2e/workers.slow',
  'store/embedded-kill.slow',
  'audit/tamper.slow',
  'e2e/root-rotation.slow',
  'e2e/backup-rotation.slow',
  'crypto/slh-dsa-vectors.slow',
  'faults/start.slow',
  'hsm/faults.slow',
  'deploy/deployment.slow',
  'e2e/interrupted-start.slow',
  'main/conformance-command.slow',
  'hsm/hanging.slow',
  'kubernetes/agent-zones.slow',
  'e2e/token-lost.slow',
  'main/other-modules.slow',
  'e2e/protect-checkpoint.slow',
  'promises/p5-stopped-instance.slow',
  'e2e/production.slow',
  'faults/grace-changes.slow',
  'faults/hsm.slow',
  'faults/root-lost.slow',
  'faults/database.slow',
  'faults/fenced.slow',
  'e2e/version-uses.slow',
  'e2e/audit-sinks.slow',
  'http/destruction.slow',
  'e2e/local-tokens.slow',
  'e2e/two-people.slow',
  'bench/rotation.slow',
  'faults/planted-intent.slow',
  'e2e/log-keys.slow',
  'e2e/kill',
  'promises/p6-database-lost',
  'store/list-plans',
  'store/embedded',
  'e2e/operator-commands',
  'e2e/hardening',
  'http/every-suite',
  'crypto/combined-engine',
  'audit/sequencer',
  'store/key-store',
  'http/limits',
  'hsm/ceremony',
  'e2e/commands',
  'e2e/doctor',
  'e2e/stop-and-start',
  'e2e/sequenced-log',
  'hsm/root-attacks',
  'audit/sequencer-faults',
  'promises/p5-two-processes',
  'hsm/rsa',
  'http/log',
  'faults/postgres-killed',
  'browser/status-page',
  'hsm/transport',
  'rotation/ten-years',
  'rotation/scheduler',
  'promises/p1-marker',
  'crypto/composite-signature',
  'hsm/token-object',
  'rotation/many-due',
  'backup/round-trip',
  'http/csr',
  'promises/p3-no-audit-no-answer',
];

export default class LongestFirst extends Sequencer {
  sort(tests) {
    const place = ({ path, context }) => {
      const name = relative(`${context.config.rootDir}/test`, path).replace(/\.test\.ts$/u, '');
      const index = LONGEST.indexOf(name);
      return index < 0 ? LONGEST.length : index;
    };
    return super.sort(tests).sort((a, b) => place(a) - place(b));
  }
}
