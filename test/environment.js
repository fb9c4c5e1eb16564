/**
 * Node, where time limits find what hangs and a machine's bad hour does not: a test and a hook have three
 * minutes at least, whatever shorter limit they name. With `TESTS_UNTIL` (seconds since 1970) a
 * file that would begin later runs none of its tests and is named in `TESTS_LEFT`, a file.
 */
import { appendFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { relative } from 'node:path';

// Comes with jest.
const { TestEnvironment } = createRequire(import.meta.url)('jest-environment-node');

const LEAST_MS = 180_000;

export default class Environment extends TestEnvironment {
  #name;

  constructor(config, context) {
    super(config, context);
    this.#name = relative(config.projectConfig.rootDir, context.testPath);
  }

  handleTestEvent(event, state) {
    const until = process.env.TESTS_UNTIL;
    const limited = event.name === 'hook_start' ? event.hook : event.test;
    switch (event.name) {
      case 'hook_start':
      case 'test_fn_start':
        if (limited.timeout > 0) limited.timeout = Math.max(limited.timeout, LEAST_MS);
        break;
      case 'run_start':
        if (until === undefined || Date.now() < Number(until) * 1_000) break;
        // The name of no test.
        state.testNamePattern = /$^/u;
        appendFileSync(process.env.TESTS_LEFT, `${this.#name}\n`);
    }
  }
}
