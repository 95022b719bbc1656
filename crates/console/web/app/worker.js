// The shared worker: one connection for every tab, since a browser opens only six to one host.

import { Stream } from "./stream.js";

const stream = new Stream();

self.onconnect = ({ ports: [port] }) => {
  port.onmessage = ({ data }) => {
    if (data.topics.length > 0) stream.listen(port, data.topics, (told) => port.postMessage(told));
    else stream.leave(port);
  };
};
