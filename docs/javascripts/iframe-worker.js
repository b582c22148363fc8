// Browsers start no workers from the disk, and search needs one: there, an invisible frame does its work.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc = `<script>postMessage = data => frameElement.answer(data)</script><script src="${url}"></script>`;
      frame.answer = data => this.dispatchEvent(new MessageEvent("message", { data }));
      this.ready = new Promise(resolve => { frame.onload = () => resolve(frame.contentWindow); });
      document.body.append(frame);
    }
    postMessage(data) {
      this.ready.then(frame => frame.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {}
  };
}
