"""Everything on disk: records, blobs, generations, requests, ledger. No torch."""
