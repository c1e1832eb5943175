/* Search in pages that are read from a folder: browsers start no worker from a file, so a hidden frame stands in. */
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.body.appendChild(document.createElement("iframe"))
      frame.hidden = true
      this.window = frame.contentWindow
      this.ready = new Promise((resolve) => (frame.onload = resolve))
      addEventListener("message", (event) => {
        if (event.source === this.window) this.dispatchEvent(new MessageEvent("message", { data: event.data }))
      })
      const answer = "postMessage = (data) => parent.postMessage(data, '*')"
      this.window.document.open()
      this.window.document.write(`<body><script>${answer}<\/script><script src="${url}"><\/script></body>`)
      this.window.document.close()
    }
    postMessage(data) {
      this.ready.then(() => this.window.dispatchEvent(new MessageEvent("message", { data })))
    }
    terminate() {}
  }
