/** Prints `openapi.yaml`; run by `npm run generate`. Examples come from a recorded test run. */
import { existsSync, readFileSync } from 'node:fs';

import { openApiDocument } from '../contract/openapi.ts';
import { toYaml } from '../contract/yaml.ts';
import type { Examples } from '../contract/openapi.ts';

const recorded = new URL('../../test/http/examples.json', import.meta.url);

const examples = existsSync(recorded)
  ? (JSON.parse(readFileSync(recorded, 'utf8')) as Examples)
  : {};

process.stdout.write(toYaml(openApiDocument(examples)));
