drop function call_admit, rate_slice;
drop table calls_daily, rate_buckets;
