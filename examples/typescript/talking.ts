/* A talking video by the farm's HTTP API, with a client that is generated from its OpenAPI document.

    cd examples/typescript && npm ci
    export FARM_URL=http://127.0.0.1:8000 FARM_KEY=itf_...
    npm run generate && npm run build
    node talking.js ../portrait.png ../speech.wav talking.mp4
*/
import { readFile, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import createClient from "openapi-fetch";
import type { components, paths } from "./farm.js";

type Event = components["schemas"]["Event"];
type Problem = components["schemas"]["Problem"];

const { FARM_URL, FARM_KEY } = process.env;
const [face, voice, output] = process.argv.slice(2);
const headers = FARM_KEY ? { Authorization: `Bearer ${FARM_KEY}` } : {};
const farm = createClient<paths>({ baseUrl: FARM_URL, headers });

/** What a call has answered; an error ends the program with its sentence. */
function answer<Data>(called: { data?: Data; error?: Problem }): Data {
  if (called.error) {
    console.error(called.error.error.message); // its `mistakes` say it field by field
    process.exit(1);
  }
  return called.data as Data;
}

/** A file as a part of a form: what OpenAPI calls a binary string. */
async function file(path: string): Promise<string> {
  return new File([await readFile(path)], basename(path)) as unknown as string;
}

function form(fields: Record<string, unknown>): FormData {
  const parts = new FormData();
  for (const [name, value] of Object.entries(fields)) parts.append(name, value as string);
  return parts;
}

/** The events of a job up to its last one; a lost connection is taken up again. */
async function* events(id: string): AsyncGenerator<Event> {
  let last: string | undefined;
  while (true) {
    const params = { path: { id }, header: { "Last-Event-ID": last } };
    const called = await farm.GET("/v1/jobs/{id}/events", { params, parseAs: "stream" });
    if (called.response.status === 204) return;
    const stream = answer(called) as ReadableStream<Uint8Array<ArrayBuffer>>;
    let text = "";
    for await (const piece of stream.pipeThrough(new TextDecoderStream())) {
      const blocks = (text + piece).split("\n\n");
      text = blocks.pop() ?? "";
      for (const block of blocks) {
        const [, position, data] = /^id: (.*)\ndata: (.*)$/.exec(block) ?? [];
        if (!data) continue; // a comment
        last = position;
        yield JSON.parse(data);
      }
    }
  }
}

const submitted = answer(
  await farm.POST("/v1/jobs", {
    body: {
      prompt: "a person talks",
      cond_video: await file(face),
      "cond_audio.person1": await file(voice),
      sample_steps: "4",
      sample_text_guide_scale: "1",
      sample_audio_guide_scale: "1",
    },
    bodySerializer: form,
  }),
);
console.log("submitted", submitted.job_id, submitted.state);
for await (const event of events(submitted.job_id)) console.log("event", event.stage, event.pct);

const params = { path: { id: submitted.job_id } };
const job = answer(await farm.GET("/v1/jobs/{id}", { params }));
console.log("ended", job.state, job.result?.error?.message ?? "");
if (job.links.content) {
  const called = await farm.GET("/v1/jobs/{id}/content", { params, parseAs: "arrayBuffer" });
  await writeFile(output, Buffer.from(answer(called) as unknown as ArrayBuffer));
  console.log("saved", output, called.response.headers.get("ETag"));
}

const page = answer(await farm.GET("/v1/jobs", { params: { query: { limit: 1, state: "success" } } }));
console.log("listed", page.jobs.map((each) => each.job_id).join(" "));

answer(await farm.DELETE("/v1/jobs/{id}", { params })); // for good, with the video and the uploads
console.log("deleted", submitted.job_id);
