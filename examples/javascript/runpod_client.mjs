/* A talking video by Runpod's own JavaScript client, from a gateway or from Runpod itself.

    cd examples/javascript && npm ci
    RUNPOD_ENDPOINT_BASE_URL=http://127.0.0.1:8000/v2 RUNPOD_API_KEY=itf_... \
        node runpod_client.mjs request.json
*/
import { readFile } from "node:fs/promises";
import runpodSdk from "runpod-sdk";

const { RUNPOD_API_KEY, RUNPOD_ENDPOINT_BASE_URL, RUNPOD_ENDPOINT_ID = "farm" } = process.env;
const request = JSON.parse(await readFile(process.argv[2], "utf8"));
const runpod = runpodSdk(RUNPOD_API_KEY, { baseUrl: RUNPOD_ENDPOINT_BASE_URL });
const endpoint = runpod.endpoint(RUNPOD_ENDPOINT_ID);

const fail = ({ message, response }) => {
  console.error(response?.data?.error?.message ?? message); // the client's own has the status alone
  process.exit(1);
};
const job = await endpoint.run(request).catch(fail);
console.log("submitted", job.id, job.status);
for await (const part of endpoint.stream(job.id)) {
  console.log("part", JSON.stringify(part.output)); // each finished chunk, then the result
}
const ended = await endpoint.status(job.id);
console.log("ended", ended.status, ended.output.video?.url ?? JSON.stringify(ended.error));

const waited = await endpoint.runSync(request, 600_000);
console.log("waited", waited.status, waited.succeeded);

const unwanted = await endpoint.run(request);
console.log("cancelled", (await endpoint.cancel(unwanted.id)).status);
console.log("health", JSON.stringify(await endpoint.health()));
console.log("purged", (await endpoint.purgeQueue()).removed);
