// Submits a job and waits for its end with @azure/core-lro, and says as JSON how that went.
import { createHttpPoller } from "@azure/core-lro";

const [url, body, timeout, key] = process.argv.slice(2);

async function told(response) {
  const text = await response.text();
  return {
    flatResponse: text ? JSON.parse(text) : undefined,
    rawResponse: {
      statusCode: response.status,
      headers: Object.fromEntries(response.headers),
      body: text ? JSON.parse(text) : undefined,
      request: { method: "GET", url: response.url },
    },
  };
}

const statuses = [];
const poller = createHttpPoller(
  {
    sendInitialRequest: async () => {
      const response = await fetch(url, {
        method: "POST",
        headers: { "Content-Type": "application/json", "Idempotency-Key": key, "Job-Timeout": timeout },
        body,
      });
      const answer = await told(response);
      answer.rawResponse.request.method = "POST";
      return answer;
    },
    sendPollRequest: async (path) => {
      const response = await fetch(path);
      statuses.push(response.status);
      return told(response);
    },
  },
  { intervalInMs: 200 },
);
try {
  const result = await poller.pollUntilDone();
  console.log(JSON.stringify({ status: poller.operationState?.status, result: result.result, statuses }));
} catch (error) {
  console.log(JSON.stringify({ status: poller.operationState?.status, error: error.message, statuses }));
}
