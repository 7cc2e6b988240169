"""Ways to reach an endpoint: each adapter opens, or listens for, the byte streams that a connection is made of.

Writing your own adapter takes three small classes; none of them knows anything of connections, messages or retries.

1. A *stream* with ``read``, ``write`` and ``close``. ``read(limit)`` returns what has arrived, at most ``limit`` bytes,
   and ``b""`` at the end; ``write(data)`` takes all of it and waits while there is no room; both raise ``OSError`` when
   the stream is broken or closed. That is all the link asks of it::

       class TlsStream:
           def __init__(self, reader, writer):
               self.reader, self.writer = reader, writer

           async def read(self, limit):
               return await self.reader.read(limit)

           async def write(self, data):
               self.writer.write(data)
               await self.writer.drain()

           def close(self):
               self.writer.close()

2. An *adapter* with the name of its ``transport``, and ``connect``, which opens the two streams of a connection to one
   endpoint, in any order. What stands behind the transport's name in an endpoint (``tls:example.org:4500``) is its
   ``path``. On failure it raises ``OSError`` (or ``RetryAfter``) and leaves nothing open::

       class TlsAdapter:
           transport = "tls"

           async def connect(self, endpoint, options):
               control = await self.open(endpoint)
               try:
                   return TransportConnection(control, await self.open(endpoint))
               except BaseException:
                   control.close()
                   raise

           async def open(self, endpoint):
               host, _, port = endpoint.path.rpartition(":")
               return TlsStream(*await asyncio.open_connection(host, int(port), ssl=self.context))

3. Its ``listen`` returns a *listener* with the bound ``endpoint``, ``accept`` and ``close``. Streams come one by one;
   which two belong together is found out above::

       class TlsListener:
           def __init__(self, endpoint, server, arrived):
               self.endpoint, self.server, self.arrived = endpoint, server, arrived

           async def accept(self):
               stream = await self.arrived.get()
               if stream is None:
                   raise OSError("the listener is closed")
               return stream

           def close(self):
               self.server.close()
               self.arrived.put_nowait(None)

Pass an instance as ``adapters=[TlsAdapter()]`` to a ``ConnectionManager`` and a ``ConnectionHost``. A stream over a
plain socket may show it as its attribute ``socket``: then the link reads and writes that directly, which is several
times faster. ``tests/transport/test_own_adapter.py`` is such an adapter in full, with messages over it.
"""
