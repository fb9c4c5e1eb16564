/** The form on a control-plane node, before services over HTTP. */
import { openAgentForm } from './agent-form.ts';
import { providesForApiServers } from './conformance.ts';

providesForApiServers('the agent', { suite: 'A256GCM', annotated: false }, openAgentForm);
providesForApiServers('the agent', { suite: 'MLKEM768-P256', annotated: true }, openAgentForm);
